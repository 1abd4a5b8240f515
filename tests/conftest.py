"""A tiny tier that trains in seconds, and the files its jobs make, shared by all tests."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mclr.config import Data as DataSection
from mclr.config import Tier, parse_tier
from mclr.data.load import Manifest, load_manifest
from mclr.data.prepare import prepare
from mclr.data.sources import fetch
from mclr.plan import Plan

_TRAINING = {"seed": 0, "steps": 4, "batch": 16, "lr": 0.01}

_TINY: dict[str, Any] = {
    "tier": "tiny",
    "seeds": [0, 1],
    "data": {"source": "digits", "n_reference": 797, "split_seed": 0},
    "features": {"cnn": {**_TRAINING, "channels": 2, "dimensions": 4}},
    "models": {
        "edm2": {
            "family": "edm2",
            "label": "EDM2",
            "network": {
                "model_channels": 4,
                "channel_mult": [1],
                "num_blocks": 1,
                "attn_resolutions": [],
                "logvar_channels": 4,
            },
            "base": {
                **_TRAINING,
                "lr_decay_steps": 3,
                "rampup_images": 32,
                "label_dropout": 0.1,
                "ema_std": 0.1,
            },
            "noise": {"P_mean": -0.8, "P_std": 1.6},
            "sampler": {"num_steps": 2, "sigma_min": 0.002, "sigma_max": 80, "rho": 7},
            "guidance": [0.5, 2],
        },
        "var": {
            "family": "var",
            "label": "VAR",
            "tokenizer": {
                "network": {
                    "vocab_size": 8,
                    "z_channels": 4,
                    "ch": 4,
                    "ch_mult": [1, 1],
                    "num_res_blocks": 1,
                    "patch_nums": [1, 2, 4],
                },
                "training": _TRAINING,
            },
            "network": {"depth": 1, "embed_dim": 8, "num_heads": 1},
            "base": {**_TRAINING, "warmup_steps": 2, "weight_decay": 0.05, "label_dropout": 0.1},
            "sampler": {"top_k": 0, "top_p": 0.0},
            "guidance": [1.5],
        },
    },
    "runs": {
        f"{model}-{name}": {
            "model": model,
            "objective": {"name": name, **objective},
            "lr": 0.001,
            "batch": 8,
            "checkpoints": [2, 4],
        }
        for model in ("edm2", "var")
        for name, objective in {
            "mclr": {"K": 4},
            "ccdpo": {"beta": 0.1, "K": 2},
            "cca": {"beta": 0.1, "lambda": 0.5, "K": 2},
            "ddo": {"alpha": 2, "beta": 0.1, "n_negatives": 24},
        }.items()
    },
    "evaluation": {
        "n_samples": 20,
        "batch": 6,
        "shards": 2,
        "labels": "balanced",
        "neighbourhood": 3,
        "isc_features": "cnn",
        "isc_splits": 2,
        "grid_rows": 2,
    },
    "report": {"features": "cnn"},
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Same bits here as in the jobs: they run on one thread, with deterministic algorithms."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


@pytest.fixture(autouse=True)
def _grad_enabled() -> Iterator[None]:
    with torch.enable_grad():
        yield


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The content of the tiny tier's configuration, to be edited freely."""
    return copy.deepcopy(_TINY)


@pytest.fixture(scope="session")
def tiny_tier() -> Tier:
    return parse_tier(copy.deepcopy(_TINY), "tiny")


@pytest.fixture(scope="session")
def tiny_plan(tiny_tier: Tier) -> Plan:
    return Plan(tiny_tier)


@pytest.fixture(scope="session")
def raw_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "digits.raw"
    fetch("digits", path)
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, raw_digits: Path, tiny_tier: Tier) -> Path:
    """Folder of the prepared digits: train.parquet, reference.parquet, manifest.json."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(DataSection.model_validate(_TINY["data"]), raw_digits, folder)
    return folder


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    return load_manifest(prepared / "manifest.json")


@dataclass(frozen=True)
class Trained:
    """What the training jobs of the tiny tier wrote."""

    prepared: Path
    net: Path
    tokenizer: Path
    edm2: Path
    var: Path

    @property
    def manifest(self) -> Path:
        return self.prepared / "manifest.json"

    def base(self, model: str) -> Path:
        return {"edm2": self.edm2, "var": self.var}[model]

    def tokenizer_of(self, model: str) -> Path | None:
        return self.tokenizer if model == "var" else None


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, prepared: Path, tiny_plan: Plan, _one_thread: None
) -> Trained:
    """Feature net, tokenizer and both base models, trained for a few steps by their jobs."""
    from mclr.jobs.training import Data, train_base, train_feature_net, train_tokenizer

    folder, data = tmp_path_factory.mktemp("trained"), Data(prepared)
    net, tokenizer, state = folder / "cnn", folder / "tokenizer" / "var.safetensors", folder / "s"
    train_feature_net(_TINY["features"]["cnn"], data, net, state)
    train_tokenizer(tiny_plan.tokenizer_spec("var"), data, tokenizer, state)
    train_base(tiny_plan.base_spec("edm2"), data, None, folder / "edm2-base", state)
    train_base(tiny_plan.base_spec("var"), data, tokenizer, folder / "var-base", state)
    last = "checkpoints/step-000004.safetensors"
    return Trained(
        prepared, net, tokenizer, folder / "edm2-base" / last, folder / "var-base" / last
    )
