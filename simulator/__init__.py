"""A small seeded world with known truth: people, posts, tastes, and how they react."""
