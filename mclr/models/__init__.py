"""Model families: EDM2 (diffusion) and VAR (visual autoregressive)."""
