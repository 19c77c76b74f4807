"""From frames to a bundle: labels, splits, fitting, metrics, promotion gate, tracking."""

import os

# OpenMP reads this when torch or scikit-learn load it, hence here. Its threads spin while they
# wait; on cores that others use too, that made one epoch of the deep family ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
