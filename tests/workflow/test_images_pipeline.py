"""One's own images through the real Snakefile: index, pixels, a base model; and changes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from checkout import MICRO, ROOT, Checkout, copy_tree
from PIL import Image

CONFIG = "config/pictures.yaml"
BASE = "results/pictures/runs/edm2-base/config.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with 60 images of 8×8 pixels in 3 classes, and a base model trained on them."""
    checkout = copy_tree(tmp_path_factory.mktemp("pictures"), CONFIG)
    tier = yaml.safe_load((ROOT / MICRO).read_text())
    tier |= {
        "tier": "pictures",
        "data": {
            "source": "images", "path": "$PICTURES", "classes": 3, "channels": 1,
            "resolution": 8, "n_reference": 15,
        },
        "models": {"edm2": tier["models"]["edm2"]},
        "runs": {"edm2-mclr": tier["runs"]["edm2-mclr"]},
    }  # fmt: skip
    (checkout.folder / CONFIG).write_text(yaml.safe_dump(tier))
    for i in range(60):
        path = checkout.folder / "photos" / "abc"[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 50 + i).save(path)
    checkout.environment["PICTURES"] = "photos"
    checkout.snakemake(BASE)
    return checkout


def test_a_base_model_is_trained(trained: Checkout) -> None:
    assert (trained.folder / BASE).exists()
    assert (trained.results / "encoded" / "pixels" / "8px.safetensors").exists()
    assert not (trained.folder / "data" / "raw").exists(), "nothing is copied"
    assert trained.planned("--", BASE) == {}


def test_other_resolutions_are_prepared_from_the_index(trained: Checkout) -> None:
    wanted = "results/pictures/encoded/pixels/4px.safetensors"
    assert trained.planned("--", wanted) == {"prepare_images_smaller": 1, "encode_pixels": 1}


def test_images_may_move_and_new_ones_are_noticed(trained: Checkout, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    (trained.folder / "photos").rename(place)
    trained.environment["PICTURES"] = str(place)
    assert trained.planned("--", BASE) == {}
    Image.effect_noise((8, 8), 5).save(place / "a" / "new.png")
    assert trained.planned("--", BASE) == {"prepare_images": 1, "encode_pixels": 1, "base_edm2": 1}
