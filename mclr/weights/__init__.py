"""Weights of other people's code, taken over and written back for it."""
