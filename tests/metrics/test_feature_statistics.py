"""Moments of features, batch by batch, against the features themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mclr.errors import UserError
from mclr.files.checksums import note_of
from mclr.metrics.features import write_features
from mclr.metrics.scores import frechet_distance, frechet_distance_of_moments
from mclr.metrics.statistics import Moments, gaussian, stored_moments

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "metrics.npz")
GEN, REAL = (torch.from_numpy(GOLDEN[name].astype(np.float64)) for name in ("gen", "real"))


def moments(features: Tensor, batch: int) -> Moments:
    found = Moments(features.shape[1])
    for part in features.split(batch):
        found.update(part)
    return found


def test_golden_moments_and_distance() -> None:
    real, gen = moments(REAL, 100).gaussian(), moments(GEN, 37).gaussian()
    np.testing.assert_allclose(real.mu, GOLDEN["edm2_real_mu"], rtol=0, atol=1e-14)
    np.testing.assert_allclose(real.sigma, GOLDEN["edm2_real_sigma"], rtol=0, atol=1e-14)
    found = frechet_distance_of_moments(gen, real)
    assert found == pytest.approx(float(GOLDEN["fd:edm2"]), rel=1e-12)
    assert found == pytest.approx(frechet_distance(GEN, REAL), rel=1e-12)


def test_against_recorded_statistics_alone() -> None:
    """All that EDM2 publishes of its reference images."""
    real = gaussian(GOLDEN["edm2_real_mu"], GOLDEN["edm2_real_sigma"], "ref.pkl")
    found = frechet_distance_of_moments(moments(GEN, 64).gaussian(), real)
    assert found == pytest.approx(float(GOLDEN["fd:edm2"]), rel=1e-12)


@pytest.mark.parametrize("batch", [1, 7, 400])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_any_batches_give_numpys_covariance(batch: int, offset: float) -> None:
    """Sums of squares about 0 would lose eight digits at this offset."""
    found = moments(GEN + offset, batch).gaussian()
    expected = np.cov((GEN + offset).numpy(), rowvar=False)
    np.testing.assert_allclose(found.sigma, expected, rtol=0, atol=1e-11 if offset else 1e-14)
    np.testing.assert_allclose(found.mu, (GEN + offset).mean(0), rtol=1e-14, atol=1e-14)


def test_merging_is_seeing_all() -> None:
    whole, merged = moments(REAL, 512), Moments(64)
    for start, end in ((300, 512), (0, 300), (0, 0)):
        merged.merge(moments(REAL[start:end], 50))
    assert merged.count == 512
    torch.testing.assert_close(merged.mean, whole.mean, rtol=0, atol=1e-14)
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=0, atol=1e-11)


def test_features_are_not_changed_or_kept() -> None:
    features = REAL[:5].clone()
    found = moments(features, 5)
    features += 1
    assert torch.equal(found.mean, REAL[:5].mean(0))
    other = moments(REAL[5:9], 4)
    found.merge(other)
    assert other.count == 4 and torch.equal(other.mean, REAL[5:9].mean(0))


def test_float32_features_are_averaged_in_float64() -> None:
    found = moments(REAL.float(), 64)
    assert found.mean.dtype == torch.float64
    torch.testing.assert_close(found.mean, REAL.mean(0), rtol=0, atol=1e-14)


def test_too_few_or_other_features() -> None:
    found = Moments(64)
    found.update(REAL[:0])
    for n in (0, 1):
        with pytest.raises(UserError, match=f"features of {n} images: a covariance needs"):
            found.gaussian()
        found.update(REAL[:1])
    with pytest.raises(UserError, match=r"shape \(5, 3\): expected \(N, 64\)"):
        found.update(REAL[:5, :3])
    with pytest.raises(UserError, match="3 and 64 dimensions cannot be merged"):
        found.merge(Moments(3))
    with pytest.raises(UserError, match="not finite"):
        moments(torch.full((3, 2), torch.inf), 3).gaussian()


def test_stored_statistics_are_checked() -> None:
    found = gaussian(np.zeros(2, np.float32), [[1.0, 0.5], [0.5, 1.0]], "ref.pkl: fid")
    assert found.mu.dtype == found.sigma.dtype == torch.float64
    for mu, sigma, what in (
        (np.zeros(2), np.eye(3), r"mu \(2,\) and sigma \(3, 3\)"),
        (np.zeros((1, 2)), np.eye(2), r"mu \(1, 2\)"),
        (np.zeros(2), np.array([[1.0, 0], [np.nan, 1]]), "not finite"),
        (np.zeros(2), np.array([[1.0, 0], [0.5, 1]]), "sigma is not symmetric"),
    ):
        with pytest.raises(UserError, match=f"ref.pkl: fid: .*{what}"):
            gaussian(mu, sigma, "ref.pkl: fid")


class Pixels(nn.Module):
    """Features: the pixels; logits: the first two."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        flat = images.flatten(1).float()
        return flat, flat[:, :2]


def test_feature_files_are_streamed(tmp_path: Path) -> None:
    images = torch.randint(256, (11, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    paths = [tmp_path / f"shard-{i}.parquet" for i in range(2)]
    for path, part in zip(paths, images.to(torch.uint8).split(6), strict=True):
        write_features(path, {"pixels": Pixels()}, part, torch.arange(len(part)))
    found = stored_moments(paths, "pixels", rows=4)
    assert found.count == 11
    torch.testing.assert_close(found.mean, images.flatten(1).double().mean(0), rtol=1e-14, atol=0)
    with pytest.raises(UserError, match=r"no column 'cnn\.features'; it has seed, label, pixels"):
        stored_moments(paths, "cnn")
    paths[1].write_bytes(paths[1].read_bytes()[:-9])
    note_of(paths[1]).unlink()
    with pytest.raises(UserError, match=r"shard-1\.parquet: feature shard is missing or damaged"):
        stored_moments(paths, "pixels")
    with pytest.raises(UserError, match="no feature shards to read for pixels"):
        stored_moments([], "pixels")


def test_a_reference_of_no_images(tmp_path: Path) -> None:
    images = torch.zeros(0, 1, 2, 2, dtype=torch.uint8)
    write_features(tmp_path / "a.parquet", {"pixels": Pixels()}, images, torch.arange(0))
    with pytest.raises(UserError, match="feature shards hold no images"):
        stored_moments([tmp_path / "a.parquet"], "pixels")
