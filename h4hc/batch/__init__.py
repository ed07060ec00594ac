"""Costs of many networks at once, for search loops: see README.md."""
