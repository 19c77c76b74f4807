"""How each model is fitted: one recipe a model; the heavy libraries are imported here only."""
