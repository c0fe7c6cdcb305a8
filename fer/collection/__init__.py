"""KEEP and REVIEW: what visitors left, and what operators decided about it."""
