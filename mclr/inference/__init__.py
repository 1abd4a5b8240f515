"""Trained models ready to use: load one from a folder or a hub, draw images of its classes.

The jobs of the workflow do not use this package; it makes the same images as they do.
"""

from mclr.inference.pipeline import ClassConditionalPipeline, Drawn

__all__ = ["ClassConditionalPipeline", "Drawn"]
