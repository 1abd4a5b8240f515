"""MCLR: guidance-free conditional generation by inter-class likelihood-ratio maximization."""
