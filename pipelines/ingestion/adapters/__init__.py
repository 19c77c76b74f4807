"""Adapters: known public data sets as people, posts, follows and events."""
