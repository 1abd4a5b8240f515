"""EDM2 denoiser: configuration, network and preconditioning; import the modules directly."""
