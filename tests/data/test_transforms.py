"""Transforms of photographs: recorded official pixels, torchvision's for VAR, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mclr.data.transforms import TRANSFORMS, Pixels, transform_image
from mclr.errors import UserError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "edm2_dataset_transforms.npz")
CASES = json.loads(str(GOLDEN["meta_json"]))["cases"]


def noise(rows: int, columns: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(256, size=(rows, columns, 3), dtype=np.uint8)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['img']}-{c['transform']}")
def test_recorded_pixels(case: dict[str, object]) -> None:
    name = str(case["transform"] or "scale")
    image, recorded = GOLDEN[f"img{case['img']}"], GOLDEN[f"img{case['img']}:{name}"]
    found = transform_image(name, image, int(str(case["width"])), int(str(case["height"])))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, recorded)


def test_every_recorded_image_is_compared() -> None:
    results = {name for name in GOLDEN.files if ":" in name}
    assert results == {f"img{c['img']}:{c['transform'] or 'scale'}" for c in CASES}


@pytest.mark.parametrize(
    "size", [(300, 500), (500, 300), (97, 131), (288, 288), (288, 291), (293, 288)]
)
def test_var_is_torchvision(size: tuple[int, int]) -> None:
    """VAR's Resize(288, LANCZOS) and CenterCrop(256)."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    image = noise(*size)
    official = Compose([Resize(288, InterpolationMode.LANCZOS), CenterCrop((256, 256))])
    expected = np.asarray(official(Image.fromarray(image)))
    np.testing.assert_array_equal(transform_image("var", image, 256, 256), expected)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_even_image_stays_even_and_a_fitting_one_the_same(name: str) -> None:
    grey = np.full((50, 70, 3), 77, dtype=np.uint8)
    height = 16 if name == "center-crop-wide" else 32
    found = transform_image(name, grey, 32, height)
    assert found.shape == (32, 32, 3)
    assert (found[8:24] == 77).all()
    assert (found[[0, -1]] == (0 if name == "center-crop-wide" else 77)).all()
    if name != "var":  # which enlarges before it crops
        same = noise(32, 32)
        np.testing.assert_array_equal(transform_image(name, same, 32, 32), same)


def test_a_crop_is_of_the_centre() -> None:
    wide = np.zeros((16, 48, 3), dtype=np.uint8)
    wide[:, 16:32] = 200
    for name in ("center-crop", "center-crop-dhariwal"):
        assert (transform_image(name, wide, 16, 16) == 200).all()


def test_dhariwal_halves_an_image_of_twice_the_size_by_averaging() -> None:
    image = noise(64, 64)
    means = image.reshape(32, 2, 32, 2, 3).mean((1, 3))
    found = transform_image("center-crop-dhariwal", image, 32, 32)
    assert np.abs(found - means).max() <= 1  # rounded along rows, then along columns


def test_mistakes_are_explained() -> None:
    image = noise(64, 64)
    with pytest.raises(UserError, match=r"'middle' is unknown.*center-crop-dhariwal.*var"):
        transform_image("middle", image, 32, 32)
    for bad in (image[..., 0], image[..., :1], image.astype(float), image[:0]):
        with pytest.raises(UserError, match="RGB"):
            transform_image("center-crop", bad, 32, 32)
    with pytest.raises(UserError, match="expected positive"):
        transform_image("scale", image, 0, 32)
    with pytest.raises(UserError, match="expected equal positive"):
        transform_image("center-crop-dhariwal", image, 32, 16)
    for small in (noise(64, 31), noise(20, 64)):
        with pytest.raises(UserError, match="too small or too flat"):
            transform_image("center-crop-wide", small, 32, 16)
