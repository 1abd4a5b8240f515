"""Inception is torch-fidelity's, with weights from a local file only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretrained_nets import random_inception
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mclr.errors import UserError
from mclr.files import save_tensors
from mclr.metrics.inception import load_inception


def test_features_and_logits_are_torch_fidelitys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    random_inception(path)
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], path)
    save_tensors(tmp_path / "weights.safetensors", torch.load(path), {})
    state = torch.get_rng_state()
    net = load_inception(tmp_path / "weights.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    images = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    features, logits = net(images.to(torch.uint8))
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)
    assert 0.01 < features.std() < 100 and 0.01 < logits.std() < 100
    expected = theirs(images.to(torch.uint8))
    assert torch.equal(features, expected[0]) and torch.equal(logits, expected[1])
    grey = images[:, :1].to(torch.uint8)
    assert torch.equal(net(grey)[0], net(grey.repeat(1, 3, 1, 1))[0])


@pytest.mark.parametrize(("content", "what"), [
    (None, "file is missing"),
    ({"fc.weight": torch.zeros(3)}, "weights do not fit"),
], ids=["missing", "other"])  # fmt: skip
def test_another_file(
    tmp_path: Path, content: object, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that says what to get and where, and never a download."""
    name = "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"
    monkeypatch.setattr(name, lambda *_, **__: pytest.fail("download"))
    path = tmp_path / "weights.pth"
    if content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=what) as error:
        load_inception(path)
    assert "weights-inception-2015-12-05-6726825d.pth: get them from https://github.com/toshas" in (
        str(error.value)
    )
    assert "\n" not in str(error.value)
