"""Labels and seeds as people write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mclr.errors import UserError
from mclr.inference.inputs import image_seeds, label_numbers

NAMES = ["T-shirt/top", "Trouser", "crane", "Crane", "crane", "7"]


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (1, [1]),
        ([0, 1, 1], [0, 1, 1]),
        ("Trouser", [1]),
        ([" trouser", "t-shirt/TOP", "Crane"], [1, 0, 3]),
        (["0", "7"], [0, 5]),  # a name counts before a number
        (torch.tensor([2, 3]), [2, 3]),
        (torch.tensor(2), [2]),
        (np.array([4, 5]), [4, 5]),
        ((np.int64(1),), [1]),
    ],
)
def test_labels_are_numbers_or_names(labels: Any, numbers: list[int]) -> None:
    assert label_numbers(labels, NAMES) == numbers


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (6, "class label 6: out of range, expected a number from 0 to 5, or a name: T-shirt/top"),
        (-1, "class label -1: out of range"),
        ("6", "class label 6: out of range"),
        ("trousers", "class 'trousers': no such class, did you mean 'Trouser'"),
        ("zebra", "class 'zebra': no such class, expected a number from 0 to 5"),
        ("CRANE", "class 'CRANE': the name of classes 2, 3, 4; say which by its number"),
        ("crane", "class 'crane': the name of classes 2, 4"),
        (1.0, r"class label 1\.0: a float, expected a number"),
        (torch.tensor([0.5]), r"class label 0\.5: a float"),
        (None, "class label None: a NoneType"),
        ([], "class labels: none given"),
    ],
)
def test_labels_that_make_no_sense(labels: Any, text: str) -> None:
    with pytest.raises(UserError, match=text):
        label_numbers(labels, NAMES)


@pytest.mark.parametrize(
    ("names", "text", "found"),
    [
        (["01", "02", "03"], "1", "label 1 is '02', but '01' is that number, too; give the name"),
        (["01", "02", "03"], "02", 1),
        (["01", "02", "03"], "0", "label 0 is '01', but that is the name of another number"),
        (["01", "02", "03"], "3", "class label 3: out of range"),
        (["00", "01", "02"], "1", 1),
        (["1", "2", "3"], "1", 0),
        (["1", "2", "3"], "0", "label 0 is '1', but that is the name of another number"),
        (["x", "01"], "1", 1),
        (["x", "y", "01"], "1", "label 1 is 'y', but '01' is that number, too"),
        (["gru\u0308n", "rot"], "Gr\u00fcn", 0),
    ],
)
def test_names_that_are_numbers(names: list[str], text: str, found: int | str) -> None:
    if isinstance(found, int):
        assert label_numbers(text, names) == [found]
    else:
        with pytest.raises(UserError, match=found):
            label_numbers(text, names)
    assert label_numbers(1, names) == [1], "a number that is no text is a label"


def test_errors_list_some_of_many_names() -> None:
    with pytest.raises(UserError, match=r"from 0 to 999, or a name: n0, .*n9, …$"):
        label_numbers("x", [f"n{i}" for i in range(1000)])


def test_seeds() -> None:
    assert image_seeds(5, 3) == [5, 6, 7]
    assert image_seeds([5, 5, 0], 3) == [5, 5, 0]
    assert image_seeds(np.int64(3), 1) == [3]
    assert image_seeds(torch.tensor([3, 9]), 2) == [3, 9]
    assert image_seeds(2**32 - 2, 2) == [2**32 - 2, 2**32 - 1]


def test_generators_draw_seeds() -> None:
    def generator(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    several = image_seeds(generator(1), 4)
    assert several == image_seeds(generator(1), 4) != image_seeds(generator(2), 4)
    one = image_seeds([generator(1), generator(1)], 2)
    assert one == [several[0], several[0]]
    torch.manual_seed(3)
    first = image_seeds(None, 2)
    assert first != image_seeds(None, 2)
    torch.manual_seed(3)
    assert first == image_seeds(None, 2)


@pytest.mark.parametrize(
    ("generator", "text"),
    [
        (1.5, r"generator 1\.5: a float, expected a seed \(whole number\), a torch\.Generator"),
        ("0", "generator '0': a str"),
        ([0, "1"], "generator '1': a str"),
        ([0], "generator: 1 seeds for 2 images"),
        (-1, "generator: seed -1 is out of range"),
        (2**32, "is out of range"),
        (2**32 - 1, r"2 seeds from 4294967295 do not end below 2\^32"),
    ],
)
def test_generators_that_make_no_sense(generator: Any, text: str) -> None:
    with pytest.raises(UserError, match=text):
        image_seeds(generator, 2)
