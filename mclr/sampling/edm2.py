"""``seeded_noise``, for files of users' own families; it is ``mclr.models.seeded``'s."""

from mclr.models.seeded import seeded_noise

__all__ = ["seeded_noise"]
