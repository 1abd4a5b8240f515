"""Class-conditional networks in diffusers' layout as a model family."""
