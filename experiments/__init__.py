"""Deterministic assignment of viewers to experiment arms."""
