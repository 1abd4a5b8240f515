"""Typed experiment definition: a tier is one YAML file, validated here before any job is planned.

The classes below are the only description of what a configuration may hold; the JSON schema in
``config/schema.json`` is generated from them. Everything the data decides (image size, channels,
number of classes) is absent on purpose: it is read from the data manifest.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from mclr.models.edm2.config import Edm2Architecture
from mclr.models.var.config import VarArchitecture, VqvaeArchitecture

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]


IMAGE_SEEDS = 2**30
"""Seeds of evaluated images lie below; the seeds of all other images lie above."""


RESERVED = ("-base", "-final", "-study", "-real")
"""Endings of evaluations that an experiment cannot have in its name."""


class Section(BaseModel):
    """A block of the configuration: unknown keys are errors, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# ------------------------------------------------------------------ data and features


class Data(Section):
    """Which images, and which of them are held out as the reference of every metric.

    Without ``n_reference`` the reference is the test split that the source itself has.
    """

    source: Literal["digits", "fashion-mnist"]
    n_reference: Count | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _reference(self) -> Data:
        if self.n_reference is None and self.source == "digits":
            raise ValueError("n_reference: required key is missing, digits has no test split")
        return self


def _kind(value: Any) -> str:
    """A feature net is a classifier unless it says otherwise."""
    if isinstance(value, dict):
        return str(value.get("kind", "classifier"))
    return str(getattr(value, "kind", "classifier"))


class ClassifierFeatures(Section):
    """A classifier trained on the training split: penultimate layer and logits are the features."""

    kind: Literal["classifier"] = "classifier"
    channels: Count
    dimensions: Count
    steps: Count
    batch: Count
    lr: Positive
    seed: Seed


class EfficientNetFeatures(Section):
    """EfficientNet-Lite0, trained on ImageNet: pooled features of images resized to ``size``.

    A linear probe, trained on the training split, gives the logits.
    """

    kind: Literal["efficientnet-lite0"]
    size: Annotated[int, Field(ge=32)]
    probe_images: Count
    seed: Seed


FeatureNet = Annotated[
    Annotated[ClassifierFeatures, Tag("classifier")]
    | Annotated[EfficientNetFeatures, Tag("efficientnet-lite0")],
    Discriminator(_kind),
]


# ------------------------------------------------------------------ models


def _distinct(values: list[float]) -> list[float]:
    if len(set(values)) != len(values):
        raise ValueError(f"values must differ, got {values}")
    return values


Scales = Annotated[list[Positive], AfterValidator(_distinct)]


Precision = Literal["float32", "bfloat16", "float16", "auto"]
"""Of activations and the weights beside them; ``auto`` is what the machine is fast in."""


class Edm2Base(Section):
    """Training of the EDM2 base model by denoising score matching."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive
    lr_decay_steps: Count
    rampup_images: Annotated[int, Field(ge=0)]
    label_dropout: Probability
    ema_std: Positive
    label_noise: Probability = 0.0
    """η of Eq. (18): the share of training images whose label is drawn anew, of all classes."""


class NoiseLevels(Section):
    """ln σ ~ N(P_mean, P_std²): the distribution p(σ) of the training noise levels."""

    P_mean: float
    P_std: Positive


class Edm2Sampler(Section):
    """Heun's method over ``num_steps`` noise levels: 2·num_steps − 1 evaluations per image."""

    num_steps: Annotated[int, Field(ge=2)]
    sigma_min: Positive
    sigma_max: Positive
    rho: Positive
    S_churn: NonNegative = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Edm2Sampler:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}")
        return self


class AutoencoderArchitecture(Section):
    """A KL autoencoder (diffusers' ``AutoencoderKL``) that halves the side between its levels."""

    channels: Annotated[list[Count], Field(min_length=1)]
    latent_channels: Count
    layers_per_block: Count = 1
    norm_groups: Count = 8


class AutoencoderTraining(Section):
    """Squared error of the reconstruction, plus ``kl`` times the KL divergence; both summed."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive
    kl: NonNegative


class Autoencoder(Section):
    """Images to latents and back, for diffusion models of latents."""

    network: AutoencoderArchitecture
    training: AutoencoderTraining


class Edm2Model(Section):
    """Diffusion family: EDM2 U-Net, one-draw denoising likelihood surrogate.

    With an ``autoencoder`` it is a model of latents.
    """

    family: Literal["edm2"]
    label: str
    resolution: Count | None = None
    """Side of the images, to which the data are averaged down; the data's own if absent."""
    autoencoder: Autoencoder | None = None
    network: Edm2Architecture
    base: Edm2Base
    noise: NoiseLevels
    sampler: Edm2Sampler
    guidance: Scales
    precision: Precision = "float32"


class VarBase(Section):
    """Training of the next-scale transformer by maximum likelihood."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    label_dropout: Probability


class TokenizerTraining(Section):
    """Training of the multi-scale VQ-VAE by reconstruction and commitment."""

    seed: Seed
    steps: Count
    batch: Count
    lr: Positive


class Tokenizer(Section):
    """Images to tokens and back, for autoregressive families."""

    network: VqvaeArchitecture
    training: TokenizerTraining


class VarSampler(Section):
    """Next-scale sampling; 0 switches a filter off."""

    top_k: Annotated[int, Field(ge=0)]
    top_p: Annotated[float, Field(ge=0, le=1)]


class VarModel(Section):
    """Autoregressive family: VQ-VAE tokens, next-scale transformer, exact likelihood."""

    family: Literal["var"]
    label: str
    resolution: Count | None = None
    tokenizer: Tokenizer
    network: VarArchitecture
    base: VarBase
    sampler: VarSampler
    guidance: Scales
    precision: Precision = "float32"


Model = Annotated[Edm2Model | VarModel, Field(discriminator="family")]


# ------------------------------------------------------------------ objectives


class Mclr(Section):
    """Eq. (22)/(150); K = 1 is Approach 1, K > 1 Approach 2; dsm is β of Eq. (160)."""

    name: Literal["mclr"]
    K: Count = 1
    dsm: NonNegative = 0.0

    @property
    def method(self) -> str:
        return "mclr+dsm" if self.dsm else "mclr"


class Wmclr(Section):
    """Theorem 3's weighted objective, Eq. (23): its optimum is the CFG score at γ = 1/dsm.

    The ratio p_t(x_t|c̃)/p_t(x_t) is estimated with ``draws`` draws, two evaluations of the base
    model each and per label; at most ``clip``, and 0 below ``floor``.
    """

    name: Literal["wmclr"]
    dsm: Positive
    K: Count = 4
    draws: Count = 4
    floor: Probability = 0.2
    clip: Annotated[float, Field(ge=1)] = 10.0

    @property
    def method(self) -> str:
        return self.name


class CcDpo(Section):
    """Eq. (156)."""

    name: Literal["ccdpo"]
    beta: Positive
    K: Count = 1

    @property
    def method(self) -> str:
        return self.name


class Cca(Section):
    """Eq. (159); thu-ml/CCA drops labels with probability uncond_ratio (0.1 in its recipes)."""

    name: Literal["cca"]
    beta: Positive
    lam: Annotated[float, Field(gt=0, alias="lambda")]
    K: Count = 1
    uncond_ratio: Probability = 0.0
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True
    )

    @property
    def method(self) -> str:
        return self.name


class Ddo(Section):
    """DDO (arXiv 2503.01103): real samples against samples of the frozen base model."""

    name: Literal["ddo"]
    alpha: Positive
    beta: Positive
    n_negatives: Count

    @property
    def method(self) -> str:
        return self.name


Objective = Annotated[Mclr | Wmclr | CcDpo | Cca | Ddo, Field(discriminator="name")]


class FineTuning(Section):
    """One fine-tuning experiment: a job per seed and per combination of the swept values."""

    model: Name
    objective: Objective
    lr: Positive
    batch: Annotated[int, Field(ge=2)]
    checkpoints: Annotated[list[Count], Field(min_length=1)]
    noise: NoiseLevels | None = None
    """Noise levels of the fine-tuning alone; the model's own if absent."""
    sweep: dict[str, Annotated[list[float], Field(min_length=1)]] = {}
    final: bool = True
    """Whether the best point is trained again with the seeds of ``final``."""

    @field_validator("checkpoints")
    @classmethod
    def _increasing(cls, steps: list[int]) -> list[int]:
        if steps != sorted(set(steps)):
            raise ValueError(f"steps must increase without repeats, got {steps}")
        return steps


# ------------------------------------------------------------------ evaluation


class Evaluation(Section):
    """How every point is sampled and measured: these values enter the protocol id."""

    n_samples: Annotated[int, Field(ge=2)]
    batch: Count
    shards: Count
    labels: Literal["balanced", "random"]
    neighbourhood: Count
    isc_features: Name
    isc_splits: Count
    grid_rows: Count

    @model_validator(mode="after")
    def _consistent(self) -> Evaluation:
        batches = -(-self.n_samples // self.batch)
        if self.shards > batches:
            raise ValueError(f"shards {self.shards}: at most the {batches} batches of n_samples")
        return self


class Final(Section):
    """The best point of each experiment, again: other training seeds, other image noise.

    Each seed trains once more with the selected hyperparameters up to the selected step, and its
    samples come from the block of that seed. The selection itself used the seeds of the tier.
    """

    seeds: Annotated[list[Seed], Field(min_length=1)]


class Interval(Section):
    """CFG at noise levels within [low, high] alone (Kynkäänniemi et al., arXiv 2404.07724)."""

    guidance: Scales
    low: NonNegative
    high: Positive


class Study(Section):
    """Other ways to sample an experiment's best checkpoint, without training.

    guidance: CFG scales. dial: weights base + t (fine-tuned − base), for each t.
    autoguidance: scales of guidance by the base model (arXiv 2406.02507). interval: CFG within
    noise levels.
    """

    guidance: Scales = []
    dial: Annotated[list[float], AfterValidator(_distinct)] = []
    autoguidance: Scales = []
    interval: Interval | None = None


class Separation(Section):
    """How far the base model tells the classes of real and generated images apart.

    ``n_images`` of each kind, each under its own class and ``others`` more, with ``draws`` shared
    draws of the noise.
    """

    n_images: Count
    draws: Count
    others: Count


class Report(Section):
    """Which feature net fills the FD, precision and recall columns of Table 1."""

    features: Name


def _free(tier: str) -> str:
    if tier in ("theory", "logs"):
        raise ValueError(f"results/{tier}/ has another use; choose another name")
    return tier


class Tier(Section):
    """One experiment at one size: data, models, fine-tuning runs, evaluation and report."""

    tier: Annotated[Name, AfterValidator(_free)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    data: Data
    features: Annotated[dict[Name, FeatureNet], Field(min_length=1)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    runs: dict[Name, FineTuning]
    final: Final | None = None
    studies: dict[Name, Study] = {}
    separation: Separation | None = None
    evaluation: Evaluation
    report: Report

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"seeds must differ, got {seeds}")
        return seeds

    @property
    def _final_seeds(self) -> list[int]:
        return self.final.seeds if self.final else []

    @model_validator(mode="after")
    def _other_seeds(self) -> Tier:
        shared = sorted(set(self.seeds) & set(self._final_seeds))
        if shared:
            raise ValueError(
                f"final.seeds: {shared} are among seeds too; expected others, so that what was "
                "selected is measured on other images"
            )
        return self

    @model_validator(mode="after")
    def _few_images(self) -> Tier:
        images = (max([*self.seeds, *self._final_seeds]) + 1) * self.evaluation.n_samples
        if images > IMAGE_SEEDS:
            raise ValueError(
                f"seeds: (largest seed + 1) · evaluation.n_samples is {images}, "
                f"expected at most 2^30 = {IMAGE_SEEDS}; use smaller seeds"
            )
        return self

    @model_validator(mode="after")
    def _references(self) -> Tier:
        for name, run in self.runs.items():
            if run.model not in self.models:
                raise ValueError(_unknown(f"runs.{name}.model", run.model, self.models))
            if run.objective.name == "wmclr" and self.models[run.model].family != "edm2":
                raise ValueError(
                    f"runs.{name}: wmclr needs a diffusion model (with exact likelihoods its "
                    "optimum is the conditional model itself, without guidance); use mclr"
                )
            if name.endswith(RESERVED):
                raise ValueError(f"runs.{name}: names ending in {', '.join(RESERVED)} are taken")
        for where, net in {
            "report.features": self.report.features,
            "evaluation.isc_features": self.evaluation.isc_features,
        }.items():
            if net not in self.features:
                raise ValueError(_unknown(where, net, self.features))
        return self

    @model_validator(mode="after")
    def _studies(self) -> Tier:
        bases = {f"{name}-base": model for name, model in self.models.items()}
        known = bases | {name: self.models[run.model] for name, run in self.runs.items()}
        for name, study in self.studies.items():
            if name not in known:
                raise ValueError(_unknown("studies", name, known))
            if known[name].family != "edm2" and (study.autoguidance or study.interval):
                raise ValueError(
                    f"studies.{name}: autoguidance and interval need a diffusion model; remove them"
                )
            if name in bases and (study.guidance or study.dial or study.autoguidance):
                raise ValueError(
                    f"studies.{name}: a base model has an interval alone (its CFG scales are "
                    "models.<model>.guidance, and there is nothing to mix it with)"
                )
        return self


def _unknown(where: str, got: str, known: Any) -> str:
    return f"{where}: unknown name {got!r}; choose from {', '.join(sorted(known))}"


def canonical(section: BaseModel | dict[str, Any]) -> str:
    """The one JSON text of a section: sorted keys, no spaces; hashes are taken over it."""
    if isinstance(section, BaseModel):
        section = section.model_dump(mode="json", by_alias=True)
    return json.dumps(section, sort_keys=True, separators=(",", ":"))
