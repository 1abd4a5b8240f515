"""The commands: one line for a result, one line and status 2 for an error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mclr import cli
from mclr.files import sha256

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def mclr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``mclr …`` in this process: exit status, standard output, standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mclr", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def test_edm2_there_and_back(mclr: Any, tmp_path: Path, edm2_pickle: Path) -> None:
    out = tmp_path / "net.safetensors"
    digest = sha256(edm2_pickle)
    status, said, _ = mclr("import-weights", edm2_pickle, "--output", out, "--sha256", digest)
    assert (status, said) == (0, f"edm2: 181,595 parameters, float16, in {out}\n")
    assert out.with_suffix(".json").is_file()
    back = tmp_path / "back.pkl"
    status, said, _ = mclr("export-weights", out, "--output", back, "--like", edm2_pickle)
    assert (status, said) == (0, f"edm2: 181,595 parameters, float16, in {back}\n")
    assert back.read_bytes() == edm2_pickle.read_bytes()


def test_tokenizer_and_what_was_assumed(mclr: Any, tmp_path: Path) -> None:
    torch.save(load_file(GOLDEN / "var_vae_small.safetensors"), tmp_path / "vae.pth")
    out = tmp_path / "vae.safetensors"
    command = ("import-weights", tmp_path / "vae.pth", "--output", out, "--kind", "vqvae")
    status, said, _ = mclr(*command, "--patch-nums", "1,2,3,4")
    assert status == 0 and said.startswith("vqvae: ") and "float16" in said
    assert "not in the file, so assumed: quant_resi = 0.5\n" in said
    status, _, err = mclr(*command, "--patch-nums", "1,x")
    assert status == 2 and "expected whole numbers with commas" in err
    status, _, err = mclr(*command)
    assert status == 2 and "--patch-nums" in err and err.count("\n") == 1


def test_what_is_said_of_a_file_and_by_it(mclr: Any, tmp_path: Path) -> None:
    state = load_file(GOLDEN / "var_var_noqknorm.safetensors")
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "var.pth")
    command = ("import-weights", tmp_path / "var.pth", "--output", tmp_path / "var.safetensors")
    status, _, err = mclr(*command)
    assert status == 2 and "--assume num_heads=N" in err and err.count("\n") == 1
    status, said, _ = mclr(*command, "--assume", "num_heads=4", "--assume", "norm_eps=1e-5")
    assert status == 0 and "assumed: num_heads = 4\n" in said and "norm_eps = 1e-05\n" in said
    assert said.endswith(
        "otherwise in the file: taken from model\n"
        "otherwise in the file: names without their prefix 'module.'\n"
    )
    status, _, err = mclr(*command, "--assume", "num_heads")
    assert status == 2 and "expected KEY=VALUE" in err


def test_statistics(mclr: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "ref.npz", mu=np.zeros(2), sigma=np.eye(2))
    out = tmp_path / "ref.safetensors"
    status, said, _ = mclr("import-weights", tmp_path / "ref.npz", "--output", out)
    assert (status, said) == (0, f"statistics: 6 values, float64, in {out}\n")
    status, _, err = mclr("export-weights", out, "--output", tmp_path / "x.pth")
    assert status == 2 and "no VAR transformer" in err and err.count("\n") == 1


def test_errors_are_one_line(mclr: Any, tmp_path: Path) -> None:
    evil = tmp_path / "evil.pkl"
    evil.write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    out = tmp_path / "o.safetensors"
    for arguments in ((evil,), (tmp_path / "absent.pkl",), (evil, "--sha256", "00")):
        status, said, err = mclr("import-weights", *arguments, "--output", out)
        assert (status, said) == (2, "") and not out.exists()
        assert err.startswith("mclr: error: ") and err.count("\n") == 1
    status, _, err = mclr("import-weights", evil, "--output", out, "--kind", "gan")
    assert status == 2 and "statistics" in err
