"""Where files of users' own families import ``seeded_noise`` from; see ``mclr.models.seeded``."""
