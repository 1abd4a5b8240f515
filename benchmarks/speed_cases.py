"""What ``speed.py`` times: each case as the library does it and as plain code does it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from mclr.config.objectives import FineTuning
from mclr.data.load import Manifest, minibatch, step_generator
from mclr.device import CPU, move
from mclr.files import save_tensors
from mclr.metrics.scores import frechet_distance, inception_score, precision_recall
from mclr.models.edm2.config import Edm2Base
from mclr.models.families import make_family
from mclr.models.family import Family
from mclr.models.seeded import seeded_noise, seeded_uniforms
from mclr.models.spec import ModelSpec
from mclr.models.var.config import VarBase, VqvaeConfig
from mclr.models.var.vqvae import Vqvae
from mclr.objectives.contrast import draw_partners
from mclr.objectives.loss import Batch
from mclr.training.base import base_trainee
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "plain"))

import plain_steps as plain  # noqa: E402
from plain_edm2 import PlainPrecond  # noqa: E402
from plain_var import PlainVar, plain_var_sample  # noqa: E402
from speed_steps import plain_stepper, stepper  # noqa: E402

CLASSES, S_D = 10, 0.5
IMAGES, SAMPLES, METRIC_SHAPE = 256, 64, (2000, 64)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "mclr K=1": {"name": "mclr", "K": 1},
    "mclr K=4": {"name": "mclr", "K": 4},
    "ccdpo K=4": {"name": "ccdpo", "beta": 0.05, "K": 4},
    "cca K=4": {"name": "cca", "beta": 0.05, "lambda": 1, "K": 4},
    "ddo": {"name": "ddo", "alpha": 0.5, "beta": 0.05, "n_negatives": 256},
}
IMITATIONS: dict[str, dict[str, Any]] = {
    "distill": {"name": "distill", "gamma": 1.5},
    "gft": {"name": "gft", "beta": 0.4},
    "gft, dial": {"name": "gft", "beta": "input"},
    "mg": {"name": "mg", "w": 0.6},
}
"""Of guidance."""
FASHION: dict[str, Any] = {
    "edm2": {"model_channels": 64, "channel_mult": [1, 1], "num_blocks": 1, "attn_resolutions": []},
    "var": {"depth": 6, "embed_dim": 192, "num_heads": 6},
    "tokenizer": {
        "vocab_size": 256, "z_channels": 16, "ch": 32, "ch_mult": [1, 1],
        "num_res_blocks": 1, "patch_nums": [1, 2, 3, 4],
    },
}  # fmt: skip

Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """Work on ``count`` images, once in every variant; ``builders`` make it ready to run.

    The others are compared with the first.
    """

    count: int
    builders: dict[str, Callable[[], Run]]


def networks(size: str) -> tuple[dict[str, Any], Manifest]:
    """Architectures, and the data they are for: 8×8 cells of 4 channels, or of 1 for digits."""
    if size == "fashion":
        return FASHION, Manifest(4, 8, CLASSES, (), {})
    models = yaml.safe_load((ROOT / "config" / "digits.yaml").read_text(encoding="utf-8"))["models"]
    var = models["var"]
    found = {"edm2": models["edm2"]["network"], "var": var["network"]}
    return found | {"tokenizer": var["tokenizer"]["network"]}, Manifest(1, 8, CLASSES, (), {})


class Bench:
    """Networks of one size with the same random weights in every variant, and random images."""

    def __init__(self, size: str, batch: int, device: torch.device = CPU) -> None:
        self.networks, self.manifest = networks(size)
        self.size, self.batch, self.device = size, batch, device
        self.images = torch.randint(
            256, (IMAGES, *self.manifest.shape), generator=step_generator(1), dtype=torch.uint8
        )
        self.labels = torch.arange(IMAGES) % CLASSES

    def family(self, kind: str, precision: str) -> Family:
        network = {"family": kind, **self.networks[kind]}
        if kind == "edm2":
            sampler = {"num_steps": 8, "sigma_min": 0.002, "sigma_max": 80, "rho": 7}
            noise = {"P_mean": -0.8, "P_std": 1.6}
            content = {"network": network, "noise": noise, "sampler": sampler}
            spec = ModelSpec.model_validate(content | {"precision": precision})
            return make_family(spec, self.manifest, None, self.device)
        codes = VqvaeConfig(**self.networks["tokenizer"], img_channels=self.manifest.channels)
        tokenizer = Vqvae.build(codes, step_generator(2))
        with tempfile.TemporaryDirectory() as folder:
            save_tensors(Path(folder, "t.safetensors"), tokenizer.state_dict(), {})
            network["tokenizer"] = self.networks["tokenizer"]
            content = {"network": network, "sampler": {"top_k": 0, "top_p": 0.0}}
            spec = ModelSpec.model_validate(content | {"precision": precision})
            return make_family(spec, self.manifest, Path(folder, "t.safetensors"), self.device)

    def base(self, family: Family) -> nn.Module:
        """A network whose gains let every layer matter, as after training."""
        net = family.build(step_generator(3))
        for name, parameter in net.named_parameters():
            if name.endswith("gain"):
                nn.init.constant_(parameter, 0.3)
        return net.to(self.device).eval().requires_grad_(False)

    def plain_net(self, kind: str) -> tuple[Any, nn.Module]:
        """The family, for data and noise alone, and a plain network."""
        family: Any = self.family(kind, "float32")
        net = PlainPrecond(family.config) if kind == "edm2" else PlainVar(family.config)
        net.load_state_dict(self.base(family).state_dict())
        return family, net.to(self.device)


def training_case(bench: Bench, kind: str, objective: dict[str, Any]) -> Case:
    """One optimiser step of fine-tuning."""

    def ours(precision: str) -> Run:
        return tuning_step(bench, kind, objective, precision)

    def naive() -> Run:
        family, net = bench.plain_net(kind)
        _, reference = bench.plain_net(kind)
        reference.requires_grad_(False)
        ell, ell_ref = (plain_ell(family, n) for n in (net, reference))
        x = family.encode(bench.images)

        def loss(step: int) -> Tensor:
            batch = draw_batch(bench, family, x, step)
            if objective["name"] == "ddo":
                made = draw_batch(bench, family, x, step + 1000)
                return plain.ddo(ell, ell_ref, batch, made, objective["beta"], objective["alpha"])
            labels, rng = bench.labels[rows_of(bench, step)], step_generator(step)
            partners = move(draw_partners(labels, objective["K"], rng).index, bench.device)
            match objective["name"]:
                case "mclr":
                    return plain.mclr(ell, batch, partners)
                case "ccdpo":
                    return plain.ccdpo(ell, ell_ref, batch, partners, objective["beta"])
            lam = objective["lambda"]
            return plain.cca(ell, ell_ref, batch, partners, objective["beta"], lam)

        return plain_stepper(net, loss)

    return Case(bench.batch, variants(naive, ours))


def tuning_step(bench: Bench, kind: str, objective: dict[str, Any], precision: str) -> Run:
    """Optimiser steps of fine-tuning, one per call."""
    family = bench.family(kind, precision)
    x, base = family.encode(bench.images), bench.base(family)
    settings = FineTuning.model_validate(
        {"model": kind, "objective": objective, "lr": 1e-4, "batch": bench.batch,
         "checkpoints": [1]}
    )  # fmt: skip
    data = Samples(x, bench.labels, CLASSES)
    negatives = Samples(x, bench.labels, CLASSES)
    return stepper(finetune_trainee(family, base, settings, 0, data, negatives))


def base_case(bench: Bench) -> Case:
    """One optimiser step of training an EDM2 base model, with its average of weights."""
    settings = base_settings("edm2", bench.batch)

    def ours(precision: str) -> Run:
        family = bench.family("edm2", precision)
        x = family.encode(bench.images)
        return stepper(base_trainee(family, settings, x, bench.labels, CLASSES))

    def naive() -> Run:
        family, net = bench.plain_net("edm2")
        _, ema = bench.plain_net("edm2")
        x = family.encode(bench.images)

        def loss(step: int) -> Tensor:
            return plain.dsm(net, draw_batch(bench, family, x, step), CLASSES, S_D)

        return plain_stepper(net, loss, ema)

    return Case(bench.batch, variants(naive, ours))


def imitations_case(bench: Bench, kind: str) -> Case:
    """One step of each imitation of guidance, and of MCLR, beside one of base training.

    The ratio is that of the step of base training: of the passes 3/5 of distillation and MG, 3/4 of
    GFT, 1/2 of MCLR with K = 1.
    """

    def base_step() -> Run:
        family = bench.family(kind, "float32")
        x, settings = family.encode(bench.images), base_settings(kind, bench.batch)
        return stepper(base_trainee(family, settings, x, bench.labels, CLASSES))

    def step(objective: dict[str, Any]) -> Callable[[], Run]:
        return lambda: tuning_step(bench, kind, objective, "float32")

    others = {"mclr K=1": OBJECTIVES["mclr K=1"], **IMITATIONS}
    return Case(bench.batch, {"base": base_step} | {n: step(o) for n, o in others.items()})


def base_settings(kind: str, batch: int) -> Edm2Base | VarBase:
    """Of base training, with its average of weights where the family keeps one."""
    shared = {"seed": 0, "steps": 1, "batch": batch, "lr": 1e-4, "label_dropout": 0.1}
    if kind == "var":
        return VarBase(**shared, warmup_steps=0, weight_decay=0.05)
    return Edm2Base(**shared, lr_decay_steps=1, rampup_images=0, ema_std=0.1)


def sampling_case(bench: Bench, kind: str, guidance: float) -> Case:
    """Generate ``SAMPLES`` images (EDM2: 8 Heun steps, 15 evaluations)."""
    seeds, labels = list(range(SAMPLES)), bench.labels[:SAMPLES]

    def ours(precision: str) -> Run:
        family = bench.family(kind, precision)
        net = family.frozen(bench.base(family))
        return torch.no_grad()(lambda: family.generate(net, seeds, labels, guidance))

    def naive() -> Run:
        family, net = bench.plain_net(kind)
        here = labels.to(bench.device)
        one_hot = nn.functional.one_hot(here, CLASSES).float()

        def run() -> Any:
            if kind == "var":
                uniforms = seeded_uniforms(seeds, family.config.length).to(bench.device)
                with bench.device:
                    return plain_var_sample(net, family.vqvae, here, uniforms, guidance)
            noise = seeded_noise(seeds, family.shape).to(bench.device)
            schedule = {"num_steps": 8, "sigma_min": 0.002, "sigma_max": 80, "rho": 7}
            return plain.heun(net, noise, one_hot, guidance, **schedule)

        return run

    return Case(SAMPLES, variants(naive, ours))


def metrics_case() -> Case:
    """FD, precision, recall and Inception Score of ``METRIC_SHAPE`` features, float64."""
    rng = step_generator(4)
    a, b = torch.randn(2, *METRIC_SHAPE, generator=rng, dtype=torch.float64)
    logits = torch.randn(len(a), CLASSES, generator=rng, dtype=torch.float64)

    def ours() -> Any:
        return frechet_distance(a, b), precision_recall(a, b, 3), inception_score(logits, 10)

    def naive() -> Any:
        return (
            plain.frechet(a.numpy(), b.numpy()),
            plain.precision_recall(a, b, 3),
            plain.inception_score(logits, 10),
        )

    return Case(len(a), {"plain": lambda: naive, "ours": lambda: ours})


def variants(naive: Callable[[], Run], ours: Callable[[str], Run]) -> dict[str, Callable[[], Run]]:
    """The plain code, and the library at its default precision and at the machine's best."""
    return {"plain": naive, "ours": lambda: ours("float32"), "ours, auto": lambda: ours("auto")}


def draw_batch(bench: Bench, family: Family, x: Tensor, step: int) -> Batch:
    """The minibatch of a step and its noise, on the device."""
    rows = rows_of(bench, step)
    drawn = Batch(x[rows], bench.labels[rows], family.draw(x[rows], step_generator(step)))
    return drawn.to(bench.device)


def rows_of(bench: Bench, step: int) -> Tensor:
    """Rows of the minibatch of a step."""
    return minibatch(IMAGES, bench.batch, step, 0)


def plain_ell(family: Any, net: Any) -> plain.Ell:
    """ℓ of a plain network; the family's tokenizer gives VAR its inputs."""
    if isinstance(net, PlainPrecond):
        return plain.denoising_ell(net, CLASSES, S_D)
    return lambda x, labels, draw: net.log_likelihood(labels, x, family.vqvae.tokens_to_input(x))


def all_cases(size: str, batch: int, device: torch.device = CPU) -> dict[str, Case]:
    """Every case by name, in the order of the table."""
    bench = Bench(size, batch, device)
    cases = {"edm2 dsm": base_case(bench)}
    for name, objective in OBJECTIVES.items():
        cases[f"edm2 {name}"] = training_case(bench, "edm2", objective)
    for name in ("mclr K=1", "mclr K=4", "ccdpo K=4"):
        cases[f"var {name}"] = training_case(bench, "var", OBJECTIVES[name])
    for kind in ("edm2", "var"):
        cases[f"{kind} steps"] = imitations_case(bench, kind)
        cases[f"{kind} sample"] = sampling_case(bench, kind, 0.0)
        cases[f"{kind} sample guided"] = sampling_case(bench, kind, 1.5)
    return cases | {"metrics": metrics_case()}
