"""torch-fidelity with our nets registered gives the numbers that our own path gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_fidelity
from PIL import Image
from pretrained_nets import TINY_VIT, random_inception, random_vit
from tiny import Trained
from torch import Tensor, nn
from torch.utils.data import Dataset

from mclr.data.load import Manifest, load_images
from mclr.errors import UserError
from mclr.files import sha256
from mclr.metrics import extractor
from mclr.metrics.dinov2 import load_dinov2
from mclr.metrics.features import load_feature_net, read_features, write_features
from mclr.metrics.inception import load_inception
from mclr.metrics.scores import (
    frechet_distance,
    frechet_distance_of_moments,
    inception_score,
    kernel_inception_distance,
    precision_recall,
)
from mclr.metrics.statistics import Moments

QUIET: dict[str, Any] = {"cuda": False, "verbose": False, "cache": False, "save_cpu_ram": True}
tiny_dinov2 = partial(load_dinov2, config=TINY_VIT, resolution=28)


class Images(Dataset[Tensor]):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def folder(path: Path, images: Tensor) -> str:
    path.mkdir()
    for i, image in enumerate(images.permute(0, 2, 3, 1).squeeze(-1).numpy()):
        Image.fromarray(image).save(path / f"{i:03d}.png")
    return str(path)


def noise(n: int, channels: int, top: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(top, (n, channels, 9, 9), generator=generator).to(torch.uint8)


@pytest.fixture
def dinov2_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny net in place of the published one."""
    monkeypatch.setattr(extractor, "load_dinov2", tiny_dinov2)
    torch.save(random_vit(), tmp_path / "dinov2.pth")
    return tmp_path / "dinov2.pth"


def test_classifier(trained: Trained, manifest: Manifest, tmp_path: Path) -> None:
    """And what the pipeline reads back from its feature files."""
    weights = trained.net / "net.safetensors"
    name = extractor.register_classifier(weights, manifest)
    images, labels = load_images(trained.prepared / "reference.parquet", manifest)
    made, real = (images[:200].float() * 0.8).to(torch.uint8), images[200:]
    found = torch_fidelity.calculate_metrics(
        input1=Images(made), input2=Images(real), feature_extractor=name, fid=True, isc=True,
        prc=True, kid=True, kid_subsets=3, kid_subset_size=50, isc_splits=4, **QUIET,
    )  # fmt: skip
    ours = []
    for part, images in (("made", made), ("real", real)):
        nets = {"cnn": load_feature_net(weights, manifest)}
        write_features(tmp_path / part, nets, images, labels[: len(images)])
        ours.append(read_features([tmp_path / part], "cnn"))
    fd = frechet_distance(ours[0].features, ours[1].features)
    assert found["frechet_inception_distance"] == pytest.approx(fd, rel=1e-6)
    prc = precision_recall(ours[0].features, ours[1].features, 3)
    assert (found["precision"], found["recall"]) == prc
    mean, std = inception_score(ours[0].logits, 4)
    assert found["inception_score_mean"] == pytest.approx(mean, rel=1e-6)
    assert found["inception_score_std"] == pytest.approx(std, rel=1e-5)
    kid, _ = kernel_inception_distance(ours[0].features, ours[1].features, 3, 50)
    assert found["kernel_inception_distance_mean"] == pytest.approx(kid, rel=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["torch", "pil"])
def test_dinov2_on_folders(dinov2_file: Path, tmp_path: Path, resize: str, channels: int) -> None:
    """Grey files too: torch-fidelity opens them as three equal channels, as we repeat them."""
    name = extractor.register_dinov2(dinov2_file, resize)
    made, real = noise(30, channels, 200), noise(40, channels)
    found = torch_fidelity.calculate_metrics(
        input1=folder(tmp_path / "made", made), input2=folder(tmp_path / "real", real),
        feature_extractor=name, fid=True, prc=True, kid=True, kid_subsets=3, kid_subset_size=20,
        **QUIET,
    )  # fmt: skip
    net = tiny_dinov2(dinov2_file, resize)
    x, y = (net(images)[0].double() for images in (made, real))
    assert found["frechet_inception_distance"] == pytest.approx(frechet_distance(x, y), rel=1e-12)
    assert (found["precision"], found["recall"]) == precision_recall(x, y, 3)
    kid, _ = kernel_inception_distance(x, y, 3, 20)
    assert found["kernel_inception_distance_mean"] == pytest.approx(kid, rel=1e-12)


def test_resizes_give_other_features_under_other_names(dinov2_file: Path) -> None:
    names = {extractor.register_dinov2(dinov2_file, resize) for resize in ("torch", "pil")}
    assert len(names) == 2
    images = noise(5, 3)
    smooth, whole = (tiny_dinov2(dinov2_file, resize)(images)[0] for resize in ("torch", "pil"))
    assert (smooth - whole).abs().max() > 1e-3


def test_no_inception_score_of_dinov2(dinov2_file: Path) -> None:
    name = extractor.register_dinov2(dinov2_file, "torch")
    with pytest.raises(UserError, match=f"{name}: no Inception Score, the net has no logits"):
        torch_fidelity.calculate_metrics(
            input1=Images(noise(5, 3)), feature_extractor=name, isc=True, **QUIET
        )


def test_inception_is_torch_fidelitys_own(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    random_inception(weights)
    options = dict(
        input1=Images(noise(6, 3, 200)), input2=Images(noise(7, 3)), isc=True, prc=True, kid=True,
        isc_splits=2, kid_subsets=2, kid_subset_size=5, **QUIET,
    )  # fmt: skip
    name = extractor.register_inception(weights)
    found = torch_fidelity.calculate_metrics(feature_extractor=name, **options)
    theirs = torch_fidelity.calculate_metrics(
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=weights, **options
    )
    assert found == pytest.approx(theirs, rel=1e-4, abs=1e-6) and len(found) == 7
    made, logits = load_inception(weights)(options["input1"].images)
    real, _ = load_inception(weights)(options["input2"].images)
    assert inception_score(logits, 2)[0] == pytest.approx(found["inception_score_mean"], rel=1e-12)
    kid, _ = kernel_inception_distance(made.double(), real.double(), 2, 5)
    assert found["kernel_inception_distance_mean"] == pytest.approx(kid, rel=1e-12)


@pytest.mark.parametrize(("register", "kind"), [
    (lambda weights: extractor.register_dinov2(weights, "pil"), "dinov2-vitl14-pil"),
    (extractor.register_inception, "inception-v3-tensorflow1"),
], ids=["dinov2", "inception"])  # fmt: skip
def test_names_hold_the_hash_of_the_weights(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    register: Callable[[Path], str],
    kind: str,
) -> None:
    """The same net may be registered twice; other weights never get its name."""
    monkeypatch.setattr(extractor, "load_dinov2", lambda *_: nn.Identity())
    monkeypatch.setattr(extractor, "load_inception", lambda *_: nn.Identity())
    (tmp_path / "a").write_text(kind)
    (tmp_path / "b").write_text(f"other {kind}")
    first, again, other = (register(tmp_path / name) for name in "aab")
    assert first == again == f"mclr-{kind}-{sha256(tmp_path / 'a')[:16]}"
    assert other == f"mclr-{kind}-{sha256(tmp_path / 'b')[:16]}"


def test_a_missing_file_is_reported_at_once(tmp_path: Path) -> None:
    for register in (
        extractor.register_inception,
        partial(extractor.register_dinov2, resize="pil"),
    ):
        with pytest.raises(UserError, match=r"none\.pth: file is missing; expected the weights of"):
            register(tmp_path / "none.pth")


def test_fd_dinov2_of_streamed_features(dinov2_file: Path) -> None:
    """Batch by batch, without a set of features in memory: EDM2's way."""
    net = tiny_dinov2(dinov2_file, "torch")
    made, real = noise(30, 3, 200), noise(40, 3)
    gaussians = []
    for images in (made, real):
        moments = Moments(12)
        for batch in images.split(7):
            moments.update(net(batch)[0])
        gaussians.append(moments.gaussian())
    found = frechet_distance_of_moments(*gaussians)
    expected = frechet_distance(net(made)[0].double(), net(real)[0].double())
    assert found == pytest.approx(expected, rel=1e-5)
