"""Looks at the feed from outside its requests: the funnel, shadow scoring, the doctor."""
