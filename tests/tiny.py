"""The tiny tier: every kind of job, each of them done in a moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mclr.planning.plan import Plan
from mclr.planning.specs import FinetuneSpec
from mclr.settings.section import Spec

S = TypeVar("S", bound=Spec)

TRAINING = {"seed": 0, "steps": 4, "batch": 16, "lr": 0.01}

TINY: dict[str, Any] = {
    "tier": "tiny",
    "seeds": [0, 1],
    "data": {"source": "digits", "n_reference": 797, "split_seed": 0},
    "features": {"cnn": {**TRAINING, "channels": 2, "dimensions": 4}},
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
                **TRAINING,
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
                "training": TRAINING,
            },
            "network": {"depth": 1, "embed_dim": 8, "num_heads": 1},
            "base": {**TRAINING, "warmup_steps": 2, "weight_decay": 0.05, "label_dropout": 0.1},
            "sampler": {"top_k": 0, "top_p": 0.0},
            "guidance": [1.5],
        },
    },
    "runs": {
        f"{model}-{objective['name']}": {
            "model": model,
            "objective": objective,
            "lr": 0.001,
            "batch": 8,
            "checkpoints": [2, 4],
        }
        for model in ("edm2", "var")
        for objective in (
            {"name": "mclr", "K": 4},
            {"name": "ccdpo", "beta": 0.1, "K": 2},
            {"name": "cca", "beta": 0.1, "lambda": 0.5, "K": 2},
            {"name": "ddo", "alpha": 2, "beta": 0.1, "n_negatives": 24},
        )
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


def edited(spec: S, **sections: dict[str, Any]) -> S:
    """A specification with keys of its sections changed: ``edited(spec, run={"lr": 1})``."""
    content = spec.content()
    for name, changes in sections.items():
        content[name] |= changes
    return type(spec).model_validate(content)


IMITATIONS: dict[str, dict[str, Any]] = {
    "distill": {"gamma": 1.5},
    "gft": {"beta": 0.4},
    "gft+dial": {"name": "gft", "beta": "input"},
    "mg": {"w": 0.6},
}
"""Methods that imitate guidance, which the tiny tier has no runs of: settings by name."""


def finetune_spec(plan: Plan, model: str, name: str) -> FinetuneSpec:
    """What fine-tunes a model of the tiny tier with an objective, seed 0."""
    if name not in IMITATIONS:
        return plan.finetune_spec(f"{model}-{name}-seed0")
    objective = {"name": name, **IMITATIONS[name]}
    spec = plan.finetune_spec(f"{model}-mclr-seed0")
    return edited(spec, run={"objective": objective}, identity={"method": name})


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
