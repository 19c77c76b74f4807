"""Seeded randomness: every random number of a feed comes from its id and the stage's name."""

import numpy as np

from contracts.ids import hash63


def stage_generator(feed_id: int, stage: str) -> np.random.Generator:
    """Make the generator of one stage of one feed; the same pair gives the same numbers."""
    return np.random.Generator(np.random.PCG64(hash63(feed_id, stage)))


def unit_interval(feed_or_viewer: int, items: np.ndarray, salt: str) -> np.ndarray:
    """Map (key, item, salt) to a stable float64 in [0, 1) per item, without a Python loop.

    The mixer is splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
    OOPSLA 2014) over the item id XOR a hash of the key and the salt.
    """
    key = np.uint64(hash63(feed_or_viewer, salt))
    with np.errstate(over="ignore"):
        mixed = items.astype(np.uint64) ^ key
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) * (1.0 / (1 << 53))
