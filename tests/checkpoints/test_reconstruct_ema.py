"""Post-hoc EMA of imported snapshots, as a command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mclr.cli import cli
from mclr.errors import UserError
from mclr.training.posthoc_ema import solve_coefficients
from mclr.weights.average import images_of, reconstruct_checkpoint, snapshot_of
from mclr.weights.header import load_checkpoint, read_checkpoint, write_checkpoint
from mclr.weights.importer import import_weights

GOLDEN = Path(__file__).parents[1] / "golden"
BUFFERS = (
    *("logvar_fourier.freqs", "logvar_fourier.phases"),
    *("unet.emb_fourier.freqs", "unet.emb_fourier.phases"),
)
TIMES, STDS = (1000, 2000), (0.05, 0.1)


@pytest.fixture(scope="module")
def snapshots(edm2_pickle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The golden network, scaled differently at each time and averaging length."""
    folder = tmp_path_factory.mktemp("snapshots")
    import_weights(edm2_pickle, folder / "net.safetensors")
    tensors, header = read_checkpoint(folder / "net.safetensors")
    paths = []
    for factor, (time, std) in enumerate((t, s) for t in TIMES for s in STDS):
        path = folder / f"network-snapshot-{time:07d}-{std:.3f}.safetensors"
        write_checkpoint(path, {n: v * (1 + factor) for n, v in tensors.items()}, header)
        paths.append(path)
    return paths


def test_weights_are_the_weighted_sum_and_buffers_those_of_the_last(
    snapshots: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    arguments = ["reconstruct-ema", *map(str, snapshots), "--std", "0.075", "--output", str(out)]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.output == f"edm2: std 0.075 from 4 snapshots, float16, in {out}\n"
    tensors, header = read_checkpoint(out)
    single, _ = read_checkpoint(snapshots[0])
    times, stds = [t for t in TIMES for _ in STDS], list(STDS) * 2
    x = solve_coefficients([*map(images_of, times)], stds, images_of(TIMES[-1]), 0.075)[:, 0]
    factor = float(x @ [1, 2, 3, 4])
    name = "unet.enc.16x16_conv.weight"
    assert tensors[name].dtype == torch.float16
    expected = single[name].float() * factor
    torch.testing.assert_close(tensors[name].float(), expected, rtol=2e-3, atol=1e-3)
    assert torch.equal(tensors["logvar_fourier.freqs"], single["logvar_fourier.freqs"] * 4)
    assert header.training["ema_std"] == 0.075
    assert header.training["ema_from"] == [path.name for path in snapshots]
    assert load_checkpoint(out)[1] == header


def test_an_earlier_time_leaves_later_snapshots_out(snapshots: list[Path], tmp_path: Path) -> None:
    header = reconstruct_checkpoint(snapshots, tmp_path / "out.safetensors", 0.1, time=1000)
    assert header.training["ema_from"] == [path.name for path in snapshots[:2]]
    found, _ = read_checkpoint(tmp_path / "out.safetensors")
    stored, _ = read_checkpoint(snapshots[1])
    assert all(torch.equal(found[name], value) for name, value in stored.items())


def test_mistakes_are_explained(snapshots: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(
        UserError, match=r"net\.safetensors: expected a name that ends with -<kimg>"
    ):
        snapshot_of(snapshots[0].with_name("net.safetensors"))
    with pytest.raises(UserError, match=r"std 0\.5"):
        reconstruct_checkpoint(snapshots, out, 0.5)
    with pytest.raises(UserError, match="target time 1500: there is no snapshot of it"):
        reconstruct_checkpoint(snapshots, out, 0.1, time=1500)
    with pytest.raises(UserError, match="target time 500: there is no snapshot of it"):
        reconstruct_checkpoint(snapshots, out, 0.1, time=500)
    assert not out.exists()


def test_times_are_those_that_names_round() -> None:
    """Every whole number of batches of 1024 images has a name of its own, and comes back."""
    assert images_of(134217) == 2**27 and images_of(2147483) == 2**31
    times = [1024 * n for n in (1, 2, 3, 41, 999, 1000, 131072, 2**21 - 1, 2**21)]
    assert [images_of(time // 1000) for time in times] == times
    found = snapshot_of(Path("network-snapshot-0134217-0.050.safetensors"))
    assert (found.time, found.std) == (2**27, 0.05)


def test_recorded_reconstruction_under_official_names(edm2_pickle: Path, tmp_path: Path) -> None:
    """The official tool's numbers, from files that are named as it names them: the same bits."""
    recorded = np.load(GOLDEN / "edm2_phema_reconstruct.npz")
    names = json.loads(str(recorded["meta_json"]))["keys"]
    import_weights(edm2_pickle, tmp_path / "net.safetensors")
    _, header = read_checkpoint(tmp_path / "net.safetensors")
    paths = []
    times, stds = recorded["in_nimg"].tolist(), recorded["in_std"].tolist()
    for i, (time, std) in enumerate(zip(times, stds, strict=True)):
        path = tmp_path / f"network-snapshot-{time // 1000:07d}-{std:.3f}.safetensors"
        tensors = {name: torch.from_numpy(recorded[f"in{i}:{name}"]) for name in names}
        # The network has more tensors than were recorded; buffers must be there.
        others = {name: torch.zeros(1) for name in BUFFERS if name not in tensors}
        write_checkpoint(path, tensors | others, header)
        paths.append(path)
    snapshots = [snapshot_of(path) for path in paths]
    ends = [snapshot.time for snapshot in snapshots]
    assert ends == times
    x = solve_coefficients(ends, stds, ends[-1], recorded["out_std"].tolist())
    np.testing.assert_allclose(x, recorded["coefs"], rtol=1e-7, atol=1e-11)
    for j, std in enumerate(recorded["out_std"].tolist()):
        for order in (paths, paths[::-1]):
            out = tmp_path / "out.safetensors"
            reconstruct_checkpoint(order, out, std)
            found, _ = read_checkpoint(out)
            for name in names:
                assert torch.equal(found[name], torch.from_numpy(recorded[f"out{j}:{name}"])), name
