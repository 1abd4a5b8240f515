"""Every objective of the paper, written once over ℓ_θ(x, c) for all model families."""
