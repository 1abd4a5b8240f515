"""Running the workflow: sites, Slurm, checks of a machine, DVC stores, Snakemake's records."""
