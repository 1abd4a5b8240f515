"""Weights of other people's code: read without running any of it, and written back for it."""
