"""A/B experiments. Nothing is built here yet: the room keeps its place in the layers."""
