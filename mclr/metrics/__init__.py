"""Features of images and the metrics computed from them, through torch-fidelity."""
