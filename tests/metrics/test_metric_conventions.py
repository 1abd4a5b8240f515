"""Recorded values of torch-fidelity, dgm-eval and EDM2: where they are ours, where not, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from mclr.metrics.scores import (
    frechet_distance,
    inception_score,
    kernel_inception_distance,
    precision_recall,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "metrics.npz")
LIBRARIES = ("torch_fidelity", "dgm_fd", "dgm_fd_efficient")


def features(name: str) -> Tensor:
    return torch.from_numpy(GOLDEN[name].astype(np.float64))


def golden(name: str) -> float:
    return float(GOLDEN[name])


@pytest.mark.parametrize(("case", "inputs"), [("fd", "gr"), ("fd_swapped", "rg")])
def test_fd_with_means_in_float64_is_edm2s(case: str, inputs: str) -> None:
    found = frechet_distance(*(features({"g": "gen", "r": "real"}[i]) for i in inputs))
    assert found == pytest.approx(golden(f"{case}:edm2"), rel=1e-12)
    assert found == pytest.approx(golden(f"{case}:exact_eigh_float64"), rel=1e-12)
    for library in LIBRARIES:
        assert golden(f"{case}:{library}") / found - 1 == pytest.approx(-7.89e-8, abs=1e-10)


def test_fd_of_the_libraries_has_means_in_float32() -> None:
    """Theirs and ‖μ₁ − μ₂‖² are float32, so their eighth digit is chance (here: also the CPU's)."""
    statistics = [fid_features_to_statistics(torch.from_numpy(GOLDEN[n])) for n in ("gen", "real")]
    np.testing.assert_array_equal(statistics[1]["mu"], GOLDEN["torch_fidelity_real_mu"])
    sigma = GOLDEN["torch_fidelity_real_sigma"]
    np.testing.assert_allclose(statistics[1]["sigma"], sigma, rtol=0, atol=1e-15)
    np.testing.assert_allclose(sigma, GOLDEN["edm2_real_sigma"], rtol=0, atol=1e-15)
    difference = (statistics[0]["mu"] - statistics[1]["mu"]).astype(np.float64)
    two_ulps = 2 * np.finfo(np.float32).eps * difference.dot(difference)
    found = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    for library in LIBRARIES:
        assert found == pytest.approx(golden(f"fd:{library}"), abs=two_ulps, rel=0)
    assert abs(found / golden("fd:edm2") - 1) > 1e-8


def test_fd_of_identical_sets_may_be_slightly_negative() -> None:
    """No library clips at 0, nor do we."""
    found = [golden(f"fd_identical:{name}") for name in (*LIBRARIES, "edm2", "exact_eigh_float64")]
    found.append(frechet_distance(features("real"), features("real")))
    assert max(map(abs, found)) < 1e-12 and min(found) < 0


def test_fd_of_fewer_images_than_dimensions() -> None:
    """Square roots of eigenvalues that should be 0 cost digits, in each library others.

    Exactly, the trace of the covariances' geometric mean is the nuclear norm of A Bᵀ.
    """
    gen, real = features("gen")[:40], features("real")[:40]
    found = frechet_distance(gen, real)
    for library in (*LIBRARIES, "edm2", "exact_eigh_float64"):
        assert golden(f"fd_rankdeficient40:{library}") == pytest.approx(found, rel=1.1e-8)
    mean = (gen.mean(0) - real.mean(0)).square().sum()
    a, b = gen - gen.mean(0), real - real.mean(0)
    norm = torch.linalg.matrix_norm(a @ b.T, "nuc")
    exact = mean + (a.square().sum() + b.square().sum() - 2 * norm) / 39
    assert found == pytest.approx(exact.item(), rel=2e-7)


@pytest.mark.parametrize(("case", "k"), [("prc", 3), ("prc", 5), ("prc_offset30", 3)])
def test_precision_and_recall_are_dgm_evals(case: str, k: int) -> None:
    """No two distances tie here, so that ≤ and < count the same."""
    offset = 30.0 if case == "prc_offset30" else 0.0
    found = precision_recall(features("gen") + offset, features("real") + offset, k)
    libraries = [f"dgm_k{k}", f"exact64_le_k{k}", f"exact64_lt_k{k}"]
    if case == "prc":
        libraries += [f"torch_fidelity_k{k}_full", f"torch_fidelity_k{k}_part"]
    for value, name in zip(found, ("precision", "recall"), strict=True):
        for library in libraries:
            recorded = golden(f"{case}:{library}_{name}")
            assert value == pytest.approx(recorded, abs=1e-7)  # a mean in float32


def test_float32_distances_miscount_when_the_mean_is_large() -> None:
    """torch-fidelity's cdist in float32 loses 2 of 400 and 1 of 512; in float64 none."""
    for layout in ("full", "part"):
        name = f"prc_offset30:torch_fidelity_k3_{layout}"
        exact = "prc_offset30:exact64_le_k3"
        assert golden(f"{name}_precision") - golden(f"{exact}_precision") == pytest.approx(2 / 400)
        assert golden(f"{name}_recall") - golden(f"{exact}_recall") == pytest.approx(-1 / 512)


def test_ties_count_as_inside() -> None:
    """≤ in torch-fidelity, as in the paper; < in dgm-eval."""
    found = precision_recall(features("gen_ties"), features("real_ties"), 3)
    for value, name in zip(found, ("precision", "recall"), strict=True):
        for library in ("exact64_le_k3", "torch_fidelity_k3_full", "torch_fidelity_k3_part"):
            assert value == pytest.approx(golden(f"prc_ties:{library}_{name}"), abs=1e-7)
        assert golden(f"prc_ties:dgm_k3_{name}") == golden(f"prc_ties:exact64_lt_k3_{name}")
        assert golden(f"prc_ties:dgm_k3_{name}") < value - 0.18


@pytest.mark.parametrize("case", ["prc:{}_k3", "prc:{}_k5", "prc_ties:{}_k3"])
def test_f_score_follows_from_precision_and_recall(case: str) -> None:
    name = case.format("torch_fidelity") + "_full"
    precision, recall = golden(f"{name}_precision"), golden(f"{name}_recall")
    expected = 2 * precision * recall / (precision + recall)
    assert golden(f"{name}_f_score") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "splits"), [(500, 1), (500, 10), (503, 1), (503, 10)])
def test_inception_score_is_torch_fidelitys(n: int, splits: int) -> None:
    found = inception_score(features(f"is_logits{n}"), splits)
    name = f"is{n}_splits{splits}_shuffle1:torch_fidelity"
    assert found[0] == pytest.approx(golden(f"{name}_mean"), rel=1e-12)
    assert found[1] == pytest.approx(golden(f"{name}_std"), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(("n", "splits"), [(500, 1), (500, 10), (503, 1)])
def test_inception_score_is_dgm_evals_if_the_splits_divide_n(n: int, splits: int) -> None:
    found = inception_score(features(f"is_logits{n}"), splits)
    name = f"is{n}_splits{splits}_shuffle1"
    for library, rel in (("dgm", 1e-12), ("dgm_from_f32probs", 1e-8)):
        assert found[0] == pytest.approx(golden(f"{name}:{library}_mean"), rel=rel)
        assert found[1] == pytest.approx(golden(f"{name}:{library}_std"), rel=rel, abs=1e-14)


@pytest.mark.parametrize("shuffle", [0, 1])
def test_else_dgm_eval_drops_the_rest(shuffle: int) -> None:
    """503 images in 10 splits: theirs are ours after leaving out the last three."""
    logits = features("is_logits503")
    if shuffle:
        logits = logits[np.random.RandomState(2020).permutation(503)]
    found = isc_features_to_metric(logits[:500], splits=10, shuffle=False)
    name = f"is503_splits10_shuffle{shuffle}"
    mean = golden(f"{name}:dgm_mean")
    assert found["inception_score_mean"] == pytest.approx(mean, rel=1e-12)
    assert found["inception_score_std"] == pytest.approx(golden(f"{name}:dgm_std"), rel=1e-12)
    assert golden(f"{name}:dgm_from_f32probs_mean") == pytest.approx(mean, rel=1e-9)
    assert abs(mean / golden(f"{name}:torch_fidelity_mean") - 1) > 7e-4


@pytest.mark.parametrize("n", [500, 503])
def test_file_order_changes_the_score_of_ten_splits(n: int) -> None:
    """Hence the fixed shuffle; one split sees all images in any order."""
    ordered = isc_features_to_metric(features(f"is_logits{n}"), splits=10, shuffle=False)
    name = f"is{n}_splits10_shuffle0:torch_fidelity_mean"
    assert ordered["inception_score_mean"] == pytest.approx(golden(name), rel=1e-12)
    shuffled = inception_score(features(f"is_logits{n}"), 10)[0]
    assert abs(shuffled / golden(name) - 1) > 6e-4
    for library in ("torch_fidelity", "dgm"):
        whole = golden(f"is{n}_splits1_shuffle0:{library}_mean")
        assert inception_score(features(f"is_logits{n}"), 1)[0] == pytest.approx(whole, rel=1e-12)


def test_kid_is_torch_fidelitys() -> None:
    """Theirs sums kernels of float32 features, about 1 each, to about 1e-3: that costs digits."""
    found = kernel_inception_distance(features("gen"), features("real"), 8, 100)
    assert found[0] == pytest.approx(golden("kid:mean"), rel=1e-4)
    assert found[1] == pytest.approx(golden("kid:std"), rel=1e-4)
    float32 = [torch.from_numpy(GOLDEN[n]) for n in ("gen", "real")]
    theirs = kid_features_to_metric(*float32, kid_subsets=8, kid_subset_size=100, verbose=False)
    for part in ("mean", "std"):
        recorded = golden(f"kid:{part}")
        assert theirs[f"kernel_inception_distance_{part}"] == pytest.approx(recorded, rel=1e-4)
