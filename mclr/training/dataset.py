"""A torch Dataset of (image, label) as the training loop has its data: in memory, encoded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mclr.errors import UserError
from mclr.models.family import Family
from mclr.training.given import Samples


def known_classes(family: Family) -> int | None:
    """The number of classes that a family knows of."""
    for holder in (family, getattr(family, "manifest", None), getattr(family, "config", None)):
        for name in ("classes", "num_classes"):
            if isinstance(found := getattr(holder, name, None), int):
                return found
    return None


def samples_of(
    what: str,
    family: Family,
    dataset: Dataset[tuple[Tensor, int]],
    classes: int | None,
    generated: bool = False,
) -> Samples:
    """All of a dataset, as the training loop has it: x (N, …) and labels (N,).

    Bytes are images, which the family encodes; what is ``generated`` stays as it is. what: the
    argument, for messages. classes: their number, one more than the largest label if None.

    Raises:
        UserError: no items by number, or one that is no (image, label), or unlike the first.
    """
    try:
        size = len(dataset)  # type: ignore[arg-type]
    except TypeError:
        raise UserError(
            f"{what}: has no length; expected items by number, 0 to its length"
        ) from None
    if size == 0:
        raise UserError(f"{what}: is empty")
    items = [_item(what, i, dataset[i], classes) for i in range(size)]
    first = items[0][0]
    for i, (image, _) in enumerate(items):
        if (image.shape, image.dtype) != (first.shape, first.dtype):
            raise UserError(
                f"{what}[{i}]: {tuple(image.shape)} of {image.dtype}, but {what}[0] is "
                f"{tuple(first.shape)} of {first.dtype}; all must be alike"
            )
    x, labels = torch.stack([image for image, _ in items]), torch.tensor([c for _, c in items])
    if x.dtype == torch.uint8 and not generated:
        x = family.encode(x)
    return Samples(x, labels, classes or int(labels.max()) + 1, generated)


def _item(what: str, i: int, item: Any, classes: int | None) -> tuple[Tensor, int]:
    try:
        image, label = item
        label = int(label)
    except (TypeError, ValueError):
        raise UserError(
            f"{what}[{i}]: a {type(item).__name__}; expected (image, label) with a whole label"
        ) from None
    if not isinstance(image, Tensor):
        raise UserError(
            f"{what}[{i}]: its image is a {type(image).__name__}; expected a torch.Tensor (with "
            "torchvision: transform=PILToTensor())"
        )
    if label < 0 or (classes is not None and label >= classes):
        raise UserError(f"{what}[{i}]: label {label}; expected 0 to {(classes or label + 1) - 1}")
    return image.detach().cpu(), label
