"""Post-hoc EMA: exact profiles and averages first, then recorded official values."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from mclr.errors import UserError
from mclr.files import save_tensors
from mclr.training import posthoc_ema
from mclr.training.posthoc_ema import (
    MAX_STD,
    Snapshot,
    exponent_std,
    inner_product,
    reconstruct,
    response,
    solve_coefficients,
)
from mclr.training.schedules import ema_exponent

FOLDER = Path(__file__).parents[1] / "golden"
PROFILES = np.load(FOLDER / "edm2_schedules_phema.npz")
RECORDED = np.load(FOLDER / "edm2_phema_reconstruct.npz")


def f64(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


# --- closed forms ------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.28])
def test_width_and_exponent_are_inverse(std: float) -> None:
    assert exponent_std(ema_exponent(std)) == pytest.approx(std, rel=1e-9)
    # A straight ramp is a triangle: standard deviation 1 / sqrt(18).
    assert exponent_std(1.0) == pytest.approx(18**-0.5, rel=1e-15)
    assert exponent_std(0.0) == pytest.approx(MAX_STD, rel=1e-15)


def test_response_has_the_width_it_is_named_after() -> None:
    times = np.arange(1, 200_001)
    share = response(times, 100_000, 0.1)
    assert share.sum() == pytest.approx(1, rel=1e-12) and not share[100_000:].any()
    mean = (share * times).sum()
    assert np.sqrt((share * (times - mean) ** 2).sum()) == pytest.approx(10_000, rel=1e-4)


def test_inner_product_is_the_integral_of_both_profiles() -> None:
    def profile(t: float, end: float, std: float) -> float:
        gamma = ema_exponent(std)
        return (gamma + 1) * t**gamma / end ** (gamma + 1) if t <= end else 0.0

    for a, b in [((3.0, 0.05), (7.0, 0.2)), ((7.0, 0.05), (3.0, 0.2)), ((5.0, 0.1), (5.0, 0.1))]:
        exact, _ = quad(lambda t, a=a, b=b: profile(t, *a) * profile(t, *b), 0, min(a[0], b[0]))
        found = inner_product(f64(a[0]), f64(a[1]), f64(b[0]), f64(b[1])).item()
        assert found == pytest.approx(exact, rel=1e-9)


def test_a_stored_average_is_found_again() -> None:
    times, stds = [4.0, 4.0, 8.0, 8.0], [0.05, 0.1, 0.05, 0.1]
    found = solve_coefficients(times, stds, [8, 8, 4], [0.1, 0.05, 0.1])
    np.testing.assert_allclose(found, np.eye(4)[:, [3, 2, 1]], atol=1e-9)


def test_a_power_of_time_is_averaged_as_if_it_had_been_tracked(tmp_path: Path) -> None:
    """θ(t) = t: the average at t with exponent γ is t (γ + 1) / (γ + 2), for any width."""

    def exact(t: float, std: float) -> float:
        gamma = ema_exponent(std)
        return t * (gamma + 1) / (gamma + 2)

    snapshots = [
        store(tmp_path, t, std, {"w": torch.tensor([exact(t, std)])})
        for t in np.linspace(1 / 32, 1, 32).tolist()
        for std in (0.05, 0.1)
    ]
    for std in (0.03, 0.075, 0.15):
        found = reconstruct(snapshots, std)["w"].item()
        assert found == pytest.approx(exact(1, std), rel=2e-4)
        early = reconstruct(snapshots, std, time=0.5)["w"].item()
        assert early == pytest.approx(exact(0.5, std), rel=5e-4)


# --- recorded ----------------------------------------------------------------------------------


def test_recorded_widths_of_exponents() -> None:
    found = [exponent_std(exponent) for exponent in PROFILES["exps"].tolist()]
    np.testing.assert_allclose(found, PROFILES["exp_to_std"], rtol=1e-14)


def test_recorded_responses() -> None:
    recorded = PROFILES["resp"]
    for i, (end, std) in enumerate(zip(PROFILES["resp_ofs"], PROFILES["resp_std"], strict=True)):
        found = response(np.arange(len(recorded)), float(end), float(std))
        np.testing.assert_allclose(found, recorded[:, i], rtol=1e-9, atol=1e-300)


def test_recorded_correlations() -> None:
    t, std = np.float64(PROFILES["ph_in_ofs"])[:, None], PROFILES["ph_in_std"][:, None]
    found = inner_product(t, std, t.T, std.T)
    np.testing.assert_allclose(found, PROFILES["ph_corr_in_in"], rtol=1e-9)


@pytest.mark.parametrize("case", ["ph_case0", "ph_case1"])
def test_recorded_coefficients(case: str) -> None:
    rows = PROFILES[f"{case}_in_index"]
    t, std = PROFILES["ph_in_ofs"][rows], PROFILES["ph_in_std"][rows]
    end, widths = PROFILES[f"{case}_out_ofs"], PROFILES[f"{case}_out_std"]
    found = solve_coefficients(t, std, end, widths)
    # Condition numbers up to 540 times the rounding of float64.
    np.testing.assert_allclose(found, PROFILES[f"{case}_coefs"], rtol=1e-9, atol=1e-11)
    t, std = np.float64(t)[:, None], std[:, None]
    condition = np.linalg.cond(inner_product(t, std, t.T, std.T))
    assert condition == pytest.approx(PROFILES[f"{case}_cond"].item(), rel=1e-6)


def test_recorded_reconstruction(tmp_path: Path) -> None:
    """The official tool on six float16 files, stored as float16 again: the same bits."""
    names = json.loads(str(RECORDED["meta_json"]))["keys"]
    snapshots = [
        store(tmp_path, time, std, {n: torch.from_numpy(RECORDED[f"in{i}:{n}"]) for n in names})
        for i, (time, std) in enumerate(
            zip(RECORDED["in_nimg"].tolist(), RECORDED["in_std"].tolist(), strict=True)
        )
    ]
    stds, end = RECORDED["out_std"].tolist(), RECORDED["out_nimg"].item()
    x = solve_coefficients([s.time for s in snapshots], [s.std for s in snapshots], end, stds)
    np.testing.assert_allclose(x, RECORDED["coefs"], rtol=1e-7, atol=1e-11)
    for j, std in enumerate(stds):
        found = reconstruct(snapshots, std, copied={"unet.emb_fourier.freqs"}, dtype=torch.float16)
        precise = reconstruct(snapshots, std, copied={"unet.emb_fourier.freqs"})
        for name in names:
            expected = torch.from_numpy(RECORDED[f"out{j}:{name}"])
            assert torch.equal(found[name], expected), name
            torch.testing.assert_close(precise[name].half(), expected, rtol=0, atol=0)


# --- files -------------------------------------------------------------------------------------


def store(folder: Path, time: float, std: float, tensors: dict[str, Tensor]) -> Snapshot:
    path = folder / f"step-{time}-{std}.safetensors"
    save_tensors(path, tensors, {"step": str(time)})
    return Snapshot(path, time, std)


@pytest.fixture()
def pair(tmp_path: Path) -> list[Snapshot]:
    return [
        store(tmp_path, t, 0.1, {"w": torch.full((4,), t), "seen": torch.tensor(int(t))})
        for t in (1.0, 2.0)
    ]


def test_types_of_the_result(pair: list[Snapshot]) -> None:
    plain, half = reconstruct(pair, 0.15), reconstruct(pair, 0.15, dtype=torch.float16)
    assert plain["w"].dtype == torch.float32 and half["w"].dtype == torch.float16
    assert torch.equal(half["w"], plain["w"].half())
    assert plain["seen"].item() == 2 and half["seen"].dtype == torch.int64
    copied = reconstruct(pair, 0.15, copied=["w"], dtype=torch.float16)["w"]
    assert torch.equal(copied, torch.full((4,), 2.0)) and copied.dtype == torch.float32


def test_snapshots_after_the_target_are_not_read(pair: list[Snapshot]) -> None:
    pair[1].path.unlink()
    assert torch.equal(reconstruct(pair, 0.1, time=1.0)["w"], torch.ones(4))


def test_one_stored_tensor_is_in_memory_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = [
        store(tmp_path, t, std, {name: torch.ones(8) for name in "abcd"})
        for t in (1.0, 2.0, 3.0)
        for std in (0.05, 0.1)
    ]
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = []

    class Watched:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.file = original(*args, **options)

        def __enter__(self) -> Watched:
            self.stored = self.file.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self.file.__exit__(*error)

        def keys(self) -> list[str]:
            return list(self.stored.keys())

        def get_tensor(self, name: str) -> Tensor:
            tensor: Tensor = self.stored.get_tensor(name)
            alive.add(tensor)
            most.append(len(alive))
            return tensor

    original = posthoc_ema.safe_open
    monkeypatch.setattr(posthoc_ema, "safe_open", Watched)
    reconstruct(snapshots, 0.15)
    assert len(most) == 24 and max(most) <= 1


def test_mistakes_are_explained(pair: list[Snapshot], tmp_path: Path) -> None:
    for std in (0.0, -0.1, 0.3, float("nan")):
        with pytest.raises(UserError, match="target std"):
            reconstruct(pair, std)
    with pytest.raises(UserError, match=r"snapshot std 0\.5"):
        reconstruct([Snapshot(pair[0].path, 1.0, 0.5)], 0.1)
    with pytest.raises(UserError, match="snapshot time 0"):
        solve_coefficients([0.0, 1.0], 0.1, 1.0, 0.1)
    with pytest.raises(UserError, match=r"target time 3: there is no snapshot.*1, 2"):
        reconstruct(pair, 0.1, time=3.0)
    with pytest.raises(UserError, match="target time 3 is later than the last snapshot, 2"):
        solve_coefficients([1.0, 2.0], 0.1, 3.0, 0.1)
    with pytest.raises(UserError, match="at least one snapshot"):
        reconstruct([], 0.1)
    with pytest.raises(UserError, match="at least one snapshot"):
        solve_coefficients([], [], 1.0, 0.1)
    with pytest.raises(UserError, match=r"time 2 with std 0\.1 is given twice"):
        reconstruct([*pair, pair[1]], 0.1)
    with pytest.raises(UserError, match=r"nowhere: snapshot is missing"):
        reconstruct([pair[0], Snapshot(tmp_path / "nowhere", 2.0, 0.1)], 0.1)
    with pytest.raises(UserError, match="no tensor freqs; it has seen, w"):
        reconstruct(pair, 0.1, copied=["w", "freqs"])
    other = store(tmp_path, 3.0, 0.1, {"w": torch.ones(4), "v": torch.ones(4)})
    with pytest.raises(UserError, match=r"other tensors than .*1\.0-0\.1.*\(seen, v\)"):
        reconstruct([*pair, other], 0.1)
    wider = store(tmp_path, 4.0, 0.1, {"w": torch.ones(5), "seen": torch.tensor(4)})
    with pytest.raises(UserError, match=r"w has shape \(5,\).*before \(4,\)"):
        reconstruct([*pair, wider], 0.1)
    pair[1].path.write_bytes(pair[1].path.read_bytes()[:60])
    with pytest.raises(UserError, match="truncated"):
        reconstruct(pair, 0.1)
