"""Jobs on one's own images: pixels stored once, models trained on them, feature nets."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny import TINY, TRAINING

from mclr.cli import cli
from mclr.config.reading import parse_tier
from mclr.data.images.prepare import prepare_images
from mclr.data.load import load_manifest
from mclr.errors import UserError
from mclr.files import read_json
from mclr.files.checksums import note_of
from mclr.jobs.encoding import load_encoded
from mclr.jobs.feature_net import train_feature_net
from mclr.jobs.inputs import Data
from mclr.jobs.training import finetune, train_base
from mclr.metrics.features import SETTINGS, load_feature_net, read_features
from mclr.models.edm2.family import Edm2Family
from mclr.planning.plan import Plan
from mclr.planning.specs import PIXELS
from mclr.settings.data import OwnImages
from mclr.settings.section import canonical

STEP = "checkpoints/step-000004.safetensors"


@pytest.fixture(scope="module")
def plan() -> Plan:
    section = {"source": "images", "path": "photos", "resolution": 8, "n_reference": 30}
    return Plan(parse_tier({**TINY, "data": section}, "own"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Data:
    """150 images of 10×12 random pixels in 3 classes."""
    folder = tmp_path_factory.mktemp("own")
    for i in range(150):
        pixels = torch.randint(256, (10, 12, 3), generator=torch.Generator().manual_seed(i))
        path = folder / "photos" / f"class {i % 3}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.to(torch.uint8).numpy()).save(path)
    assert isinstance(plan.tier.data, OwnImages)
    own = plan.tier.data.model_copy(update={"path": str(folder / "photos")})
    prepare_images(own, folder / "prepared")
    return Data(folder / "prepared")


@pytest.fixture(scope="module")
def pixels(data: Data, tmp_path_factory: pytest.TempPathFactory, _one_thread: None) -> Path:
    """Written by the command."""
    folder = tmp_path_factory.mktemp("encoded")
    output = folder / "8px.safetensors"
    command = ["encode", "--spec", canonical(PIXELS), "--data", data.folder, "--output", output]
    command += ["--state", folder / "state"]
    CliRunner().invoke(cli, [str(part) for part in command], catch_exceptions=False)
    made = {file.name for file in folder.iterdir() if file.suffix != ".lock"}
    assert made == {output.name, note_of(output).name}
    return output


def test_a_class_name_does_not_change_unseen(data: Data, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    for path in (data.folder / manifest.name, note_of(data.folder / manifest.name)):
        shutil.copy(path, tmp_path)
    manifest.write_text(manifest.read_text().replace("class 1", "class 7"))
    with pytest.raises(UserError, match=r"manifest\.json: damaged, or another file in its place"):
        load_manifest(manifest)


def test_stored_pixels_are_the_images(plan: Plan, data: Data, pixels: Path) -> None:
    x, labels = load_encoded(pixels, plan.base_spec("edm2"))
    images, expected = data.train()
    assert x.dtype == torch.uint8 and x.shape == (120, 3, 8, 8)
    assert torch.equal(x, images) and torch.equal(labels, expected)
    with pytest.raises(UserError, match="encoded for another network"):
        load_encoded(pixels, plan.base_spec("var"))


def test_pixels_train_the_same_model_stored_or_not(
    plan: Plan, data: Data, pixels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, tuned = plan.base_spec("edm2"), plan.finetune_spec("edm2-mclr-seed0")
    for name, encoded in (("plain", None), ("stored", pixels)):
        if encoded:
            monkeypatch.setattr(Data, "train", None)
        base, run = tmp_path / name / "edm2-base", tmp_path / name / "edm2-mclr-seed0"
        train_base(spec, data, None, base, tmp_path / "state", encoded=encoded)
        files = (base / STEP, None, None)
        finetune(tuned, data, *files, run, tmp_path / "state", encoded=encoded)
    for run_id in ("edm2-base", "edm2-mclr-seed0"):
        plain, stored = (tmp_path / name / run_id / STEP for name in ("plain", "stored"))
        assert plain.read_bytes() == stored.read_bytes()


def test_a_model_of_pixels_takes_images_as_they_are(plan: Plan, data: Data) -> None:
    network = plan.base_spec("edm2").content()["network"]
    del network["family"]
    family, rng = Edm2Family(network, data.manifest, None, None), torch.Generator()
    images = data.rows("train", torch.arange(4))[0]
    assert torch.equal(family.from_encoded(images, rng), family.encode(images))


@pytest.mark.parametrize(
    "settings",
    [
        {**TRAINING, "channels": 2, "dimensions": 4},
        {"kind": "efficientnet-lite0", "size": 32, "probe_images": 60, "seed": 0},
    ],
    ids=["classifier", "efficientnet-lite0"],
)
def test_feature_net(
    settings: dict[str, Any], data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of real images batch by batch; a published net never holds all of them."""
    monkeypatch.setattr("mclr.jobs.feature_net.BATCH", 16)
    reference, labels = data.rows("reference", None)
    if "kind" in settings:
        monkeypatch.setattr(Data, "train", None)
    folder = tmp_path / "net"
    train_feature_net(SETTINGS.validate_python(settings), data, folder, tmp_path / "state")
    net = load_feature_net(folder / "net.safetensors", data.manifest)
    found = read_features([folder / "reference.parquet"], "net")
    features, logits = net(reference)
    torch.testing.assert_close(found.features.float(), features, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.labels, labels)
    right = (logits.argmax(1) == labels).float().mean().item()
    assert read_json(folder / "info.json")["held_out_accuracy"] == right
    assert read_features([folder / "train.parquet"], "net").seeds.tolist() == list(range(120))
