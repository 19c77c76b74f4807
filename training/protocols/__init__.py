"""Published protocols: a source's own split of a public set, models on it, and its figures."""
