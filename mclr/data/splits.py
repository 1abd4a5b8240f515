"""Which images are held out as the reference: at random, with the class balance of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mclr.errors import UserError

Rows = NDArray[np.int64]


def hold_out(
    rows: Rows, labels: Rows, names: Sequence[str], n_reference: int, seed: int, keep: bool = False
) -> tuple[Rows, Rows]:
    """Rows of the training and of the reference images, both in order.

    rows, labels: (N,), of all images. names: of the classes. keep: whether the reference images
    stay training images.

    Raises:
        UserError: a split has no image of some class.
    """
    # Takes a second to load.
    from sklearn.model_selection import train_test_split

    train, reference = train_test_split(
        rows, test_size=n_reference, random_state=seed, stratify=labels
    )
    reference = np.sort(reference)
    found = {"training": rows if keep else np.sort(train), "reference": reference}
    for split, some in found.items():
        own = np.bincount(labels[np.isin(rows, some)], minlength=len(names))
        if not own.all():
            counts = np.bincount(labels, minlength=len(names))
            raise UserError(_missing(split, counts, own, names, n_reference, keep))
    return found["training"], reference


def _missing(
    split: str, counts: Rows, own: Rows, names: Sequence[str], n_reference: int, keep: bool
) -> str:
    """Which class has no image in a split, and the numbers with which it would have one."""
    missing = np.flatnonzero(own == 0)
    worst = missing[counts[missing].argmin()]
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    n, least = int(counts.sum()), ceil(counts.sum() / counts.min())
    most = n - len(counts) if keep else n - least
    ways = [f"a number from {least} to {most}"] if least <= most else []
    ways.append(f"{_enough(counts, n_reference, keep)} images of each class or more")
    return (
        f"data.n_reference: {n_reference} of {n} images, in the balance of the whole, leave class "
        f"{names[worst]}{more}, of {counts[worst]} images, with none in the {split} split; "
        f"expected {', or '.join(ways)}. Change n_reference, add images, or remove the class"
    )


# Of m images of n, a split of k has at least ⌊k m / n⌋.
def _enough(counts: Rows, n_reference: int, keep: bool) -> int:
    """The least number of images of each class with which n_reference will do."""
    least = int(counts.min())
    while True:
        n = int(np.maximum(counts, least).sum())
        fewest = n_reference if keep else min(n_reference, n - n_reference)
        if fewest * least >= n:
            return least
        least += 1  # it ends: with as many of each class as of the largest it is enough
