"""What can be learned: retrieval families, blend, ensemble ranker, and the bundle format."""
