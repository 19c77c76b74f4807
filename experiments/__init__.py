"""A/B experiments: who gets which arm. Plans, statistics and the report come later."""
