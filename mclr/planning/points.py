"""What is trained and what is measured: runs, evaluated points, and where their files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mclr.config.models import Edm2Model, Model, OwnModel
from mclr.config.objectives import FineTuning
from mclr.objectives.objective import KIND

PIXELS = {"pixels": "uint8"}
"""Specification of the job that stores plain pixels, for all models of pixels of a resolution."""


@dataclass(frozen=True)
class Run:
    """One training run: a base model, or one fine-tuning job.

    A final run has no checkpoints of its own: it trains up to the step that was selected, which
    is known when the grid has been measured; so are its swept hyperparameters.
    """

    run_id: str
    experiment: str
    model: str
    method: str
    seed: int
    checkpoints: tuple[int, ...]
    settings: FineTuning | None
    is_final: bool = False

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What was chosen for this run and could have been chosen otherwise."""
        if self.settings is None:
            return {}
        objective = self.settings.objective.model_dump(by_alias=True, exclude=KIND)
        noise = self.settings.noise.model_dump() if self.settings.noise else {}
        start = {"from": self.settings.start} if self.settings.start else {}
        return {"lr": self.settings.lr, "batch": self.settings.batch, **objective, **noise, **start}

    @property
    def start(self) -> str:
        """What it starts from: its model's base, by the model's name, or an experiment's best."""
        return (self.settings.start if self.settings else None) or self.model

    @property
    def is_base(self) -> bool:
        return self.settings is None


GRID, FINAL, STUDY = "grid", "final", "study"
"""Stages: every checkpoint; the selected point with other seeds; other samplings of the best."""


@dataclass(frozen=True)
class Point:
    """One evaluated point: weights, a way to sample them, a block of image seeds.

    ``step`` and ``guidance`` None: the selected ones. ``guide`` says what guides: the null label
    of the network itself, or the base model. ``dial`` t: weights base + t (fine-tuned − base).
    """

    run: Run
    step: int | None
    guidance: float | None
    seed: int
    stage: str = GRID
    guide: Literal["null", "base"] = "null"
    interval: tuple[float, float] | None = None
    dial: float = 1.0

    @property
    def method(self) -> str:
        """What the table and the figures call this way of sampling."""
        guided = self.guidance is None or self.guidance > 0
        if self.interval:
            return "cfg-interval"
        if self.run.is_base:
            return "cfg" if guided else self.run.method
        if self.dial != 1:
            return f"{self.run.method}-dial"
        kind = "cfg" if self.guide == "null" else "autoguidance"
        return f"{self.run.method}+{kind}" if guided else self.run.method

    @property
    def path(self) -> str:
        """Folder of this point's files below ``features/`` and ``grids/``."""
        experiment = self.run.experiment
        if self.stage == GRID:
            return (
                f"{experiment}/{self.run.run_id}/step-{self.step:06d}"
                f"/guidance-{self.guidance:g}/seed-{self.seed}"
            )
        if self.stage == FINAL:
            return f"{experiment}-final/{self.run.run_id}/{self.method}/seed-{self.seed}"
        how = f"dial-{self.dial:g}" if self.dial != 1 else f"{self.method}-{self.guidance:g}"
        return f"{experiment}-study/{self.run.run_id}/{how}/seed-{self.seed}"

    @property
    def needs_base(self) -> bool:
        """Whether the base model takes part beside the weights sampled."""
        return self.guide == "base" or self.dial != 1


def evaluations(model: Model, guided: bool, interval: tuple[float, float] | None = None) -> int:
    """Network evaluations per image (NFE): 2·steps − 1 for Heun, one per scale for VAR.

    Guidance doubles them, as the paper counts; within an interval, those at its noise levels.
    """
    if isinstance(model, OwnModel):
        return model.nfe * (2 if guided else 1)
    if not isinstance(model, Edm2Model):
        return len(model.tokenizer.network.patch_nums) * (2 if guided else 1)
    sampler = model.sampler
    single = 2 * sampler.num_steps - 1
    if not guided or interval is None:
        return single * (2 if guided else 1)
    low, high = interval
    levels = heun_levels(sampler.num_steps, sampler.sigma_min, sampler.sigma_max, sampler.rho)
    # Every level but the first is evaluated twice: at the end of a step and at the next start.
    return single + sum((2 if i else 1) for i, s in enumerate(levels) if low <= s <= high)


# Karras et al. 2022, Eq. 5; the last step to 0 has no second evaluation.
def heun_levels(num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    """Noise levels of the sampler, from sigma_max to sigma_min."""
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [float((top + i / (num_steps - 1) * (bottom - top)) ** rho) for i in range(num_steps)]


def net_folder(net: str, resolution: int | None) -> str:
    """Folder of a feature net: its name, and the resolution where it is not the data's own."""
    return net if resolution is None else f"{net}-{resolution}px"


def final_path(tier: str, run_id: str) -> str:
    """Where a final run keeps its weights; their step is in the metadata of the file."""
    return str(Path("results", tier, "runs", run_id, "checkpoints", "final.safetensors"))


def best_path(tier: str, experiment: str) -> str:
    """The best checkpoint of an experiment's grid."""
    return str(Path("results", tier, "best", f"{experiment}.safetensors"))


def checkpoint_path(tier: str, run_id: str, step: int) -> str:
    """Where a run keeps the weights of one step."""
    return str(Path("results", tier, "runs", run_id, "checkpoints", f"step-{step:06d}.safetensors"))
