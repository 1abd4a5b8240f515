"""Which class each sampled image is of: the label of an image depends on its seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mclr.data.load import Manifest, step_generator
from mclr.errors import UserError
from mclr.settings.features import LabelScheme

UNEVEN = 2
"""Times as many images of one class as of another: more, and uniform labels compare nothing."""


def labels_of(seeds: list[int], scheme: str, classes: int) -> Tensor:
    """Uniform labels: balanced (seed modulo classes) or random (drawn by its seed)."""
    if scheme == "balanced":
        return torch.tensor([seed % classes for seed in seeds])
    draws = [torch.randint(classes, (1,), generator=step_generator(s, 6)) for s in seeds]
    return torch.cat(draws)


def check_scheme(scheme: LabelScheme, manifest: Manifest) -> None:
    """UserError where labels are to be uniform and the data are not, so that no FD could be 0."""
    counts = [sum(split) for split in zip(*manifest.class_counts.values(), strict=True)]
    if scheme == "proportional" or not counts or max(counts) <= UNEVEN * min(counts):
        return
    names = [manifest.class_names[counts.index(most(counts))] for most in (min, max)]
    raise UserError(
        f"evaluation.labels: {scheme} gives every class as many samples, but there are "
        f"{min(counts)} images of {names[0]} and {max(counts)} of {names[1]}; write "
        "`labels: proportional`, or leave out images of the large classes"
    )


def proportional_counts(counts: Sequence[int], n: int) -> list[int]:
    """n images over classes in proportion to ``counts``, by the largest remainders."""
    total = sum(counts)
    found = [n * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda c: (-(n * counts[c] % total), c))
    for label in by_remainder[: n - sum(found)]:
        found[label] += 1
    return found


def proportional_labels(counts: Sequence[int], n: int) -> Tensor:
    """Labels (n,) in proportion to ``counts``, the classes spread evenly over the images.

    The k-th of m images of a class has its place at (k + 1/2) / m; with as many of each class the
    labels are the balanced ones.
    """
    each = torch.tensor(proportional_counts(counts, n))
    labels = torch.arange(len(counts)).repeat_interleave(each)
    turns = torch.cat([torch.arange(int(m)) for m in each])
    places = (2 * turns + 1).double() / (2 * each[labels])
    return labels[places.argsort(stable=True)]


def block_labels(seeds: list[int], scheme: LabelScheme, manifest: Manifest, n: int) -> Tensor:
    """The labels of seeds among blocks of n, each of which has the scheme."""
    if scheme == "proportional":
        order = proportional_labels(manifest.class_counts["reference"], n)
        return order[torch.tensor(seeds) % n]
    return labels_of(seeds, scheme, manifest.num_classes)
