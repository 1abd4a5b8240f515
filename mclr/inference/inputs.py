"""What people ask a pipeline for, as numbers: labels of classes, seeds of images."""

from __future__ import annotations

import difflib
import operator
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mclr.errors import UserError

SEEDS = 2**32
"""Torch's CPU generator tells this many seeds apart."""
SHOWN = 10
"""Class names that an error lists."""


def label_numbers(labels: Any, class_names: Sequence[str]) -> list[int]:
    """The number of each class asked for.

    labels: one or several of: number, name (upper and lower case count alike where that is not
    ambiguous); or a tensor or array of numbers. Text that is no name but a number is one, unless
    the names are other numbers.

    Raises:
        UserError: no label, an unknown or ambiguous name, a number out of range, another type.
    """
    if hasattr(labels, "tolist"):
        labels = labels.tolist()
    several = [labels] if isinstance(labels, str) or not isinstance(labels, Iterable) else labels
    numbers = [_label(label, class_names) for label in several]
    if not numbers:
        raise UserError(f"class labels: none given; expected {_valid(class_names)}")
    return numbers


def _label(label: Any, class_names: Sequence[str]) -> int:
    if isinstance(label, str):
        return _named(label.strip(), class_names)
    try:
        number = operator.index(label)
    except TypeError:
        kind = type(label).__name__
        raise UserError(
            f"class label {label!r}: a {kind}, expected {_valid(class_names)}"
        ) from None
    if not 0 <= number < len(class_names):
        raise UserError(f"class label {number}: out of range, expected {_valid(class_names)}")
    return number


def _named(text: str, class_names: Sequence[str]) -> int:
    folds: tuple[Callable[[str], str], ...] = (str, _same)
    for fold in folds:
        found = [i for i, name in enumerate(class_names) if fold(name) == fold(text)]
        if len(found) > 1:
            raise UserError(
                f"class {text!r}: the name of classes {', '.join(map(str, found))}; say which "
                "by its number"
            )
        if found:
            return found[0]
    if text.removeprefix("-").isdecimal():
        number = _label(int(text), class_names)
        _check_number(text, number, class_names)
        return number
    close = difflib.get_close_matches(text, class_names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? Expected" if close else "expected"
    raise UserError(f"class {text!r}: no such class, {hint} {_valid(class_names)}")


def _same(text: str) -> str:
    """Alike for capitals, and for the Unicode forms that look the same."""
    return unicodedata.normalize("NFC", text).casefold()


def _check_number(text: str, number: int, class_names: Sequence[str]) -> None:
    """UserError if class 1 is the second one, "02", where another is called "01"."""
    alike = [name for name in class_names if name.isdecimal() and int(name) == number]
    other = class_names[number]
    if other not in alike and (alike or other.isdecimal()):
        but = f"{alike[0]!r} is that number, too" if alike else "that is the name of another number"
        raise UserError(
            f"class {text!r}: the class of label {number} is {other!r}, but {but}; give the name"
        )


def _valid(class_names: Sequence[str]) -> str:
    names = ", ".join(class_names[:SHOWN]) + (", …" if len(class_names) > SHOWN else "")
    return f"a number from 0 to {len(class_names) - 1}, or a name: {names}"


def image_seeds(generator: Any, n: int) -> list[int]:
    """A seed for each of n images.

    generator: one seed, of the first image, whose followers have the next ones; a seed for each
    image; a ``torch.Generator`` that draws all of them, or one for each image; None for seeds
    that torch's default generator draws.

    Raises:
        UserError: another type, another number of seeds, or a seed out of range.
    """
    if isinstance(generator, Tensor):
        generator = generator.tolist()
    if generator is None or isinstance(generator, torch.Generator):
        return _drawn(generator, n)
    if isinstance(generator, Iterable) and not isinstance(generator, str):
        several = list(generator)
        if len(several) != n:
            raise UserError(
                f"generator: {len(several)} seeds for {n} images; expected a seed for each image, "
                "or one for the first image"
            )
        return [_seed(one) for one in several]
    first = _seed(generator)
    if first + n > SEEDS:
        raise UserError(f"generator: {n} seeds from {first} do not end below 2^32; begin lower")
    return list(range(first, first + n))


def _drawn(generator: torch.Generator | None, n: int) -> list[int]:
    device = generator.device if generator else "cpu"
    drawn: list[int] = torch.randint(SEEDS, (n,), generator=generator, device=device).tolist()
    return drawn


def _seed(one: Any) -> int:
    if isinstance(one, torch.Generator):
        return _drawn(one, 1)[0]
    try:
        seed = operator.index(one)
    except TypeError:
        raise UserError(
            f"generator {one!r}: a {type(one).__name__}, expected a seed (whole number), a "
            "torch.Generator, a list with one of these for each image, or None"
        ) from None
    if not 0 <= seed < SEEDS:
        raise UserError(f"generator: seed {seed} is out of range, expected 0 to 2^32 - 1")
    return seed
