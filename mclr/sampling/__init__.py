"""Samplers: a picture depends on weights, seed, label and settings, and on nothing else."""
