"""The published digits results, put in place without DVC: its store is in this checkout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "data" / "store" / "files" / "md5"


def bring(folder: Path, *wanted: str) -> None:
    """Copy outputs that ``dvc.lock`` lists below ``folder``, and the digits configuration."""
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())
    digests = {
        out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]
    }
    for path in wanted:
        _put(folder / path, digests[path])
    (folder / "config").mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "config" / "digits.yaml", folder / "config" / "digits.yaml")


def _put(target: Path, digest: str) -> None:
    stored = STORE / digest[:2] / digest[2:]
    if not digest.endswith(".dir"):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stored, target)
        return
    for entry in json.loads(stored.read_text()):
        _put(target / entry["relpath"], entry["md5"])


def bring_experiments(folder: Path, *experiments: str) -> None:
    """Everything that the export of these experiments reads."""
    results = "results/digits"
    models = {name.split("-")[0] for name in experiments}
    bring(
        folder,
        "data/prepared/digits",
        f"{results}/metrics.parquet",
        f"{results}/protocols.json",
        *(f"{results}/runs/{model}-base" for model in models),
        *(f"{results}/tokenizers/var.safetensors" for model in models if model == "var"),
    )
    for name in experiments:
        seeds = [f"{results}/runs/{name}-seed{seed}" for seed in (0, 1)]
        bring(folder, f"{results}/best/{name}.safetensors", f"{results}/grids/{name}", *seeds)
