"""From frames to a bundle: labels, splits, fitting, metrics, promotion gate, tracking."""
