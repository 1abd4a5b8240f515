"""What a GPU makes of the paper's networks: `python benchmarks/paper.py` on a machine with one.

The models of config/imagenet.yaml with random weights, and each kind of work that its jobs do:
images per second, the share of the peak rate, and memory beside what `mclr plan` predicts. EDM2's
samplers take 8 steps and are scaled to the tier's; training is a pass of as many samples as fit by
the plan, with the optimiser's step.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mclr.config.reading import load_tier
from mclr.cost.hardware import GPUS, Gpu, Work
from mclr.cost.images import images_of
from mclr.cost.memory import memory_of
from mclr.cost.passes import objective_passes
from mclr.cost.work import Workload
from mclr.data.load import step_generator
from mclr.device import set_up
from mclr.files import save_tensors
from mclr.metrics.cost import feature_macs
from mclr.metrics.dinov2 import dinov2_of
from mclr.metrics.inception import load_inception
from mclr.metrics.reference import Reference
from mclr.metrics.vit import VIT_L_14, Vit
from mclr.models.cost import Cost
from mclr.models.edm2.config import Edm2Model, Edm2Sampler
from mclr.models.edm2.cost import SD_VAE
from mclr.models.families import make_family
from mclr.models.family import Family
from mclr.models.var.config import VarModel, VqvaeConfig
from mclr.models.var.vqvae import Vqvae
from mclr.planning.plan import Plan
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.share import Share

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("metrics", "plain")]

from pretrained_nets import random_inception  # noqa: E402
from speed import timed  # noqa: E402
from speed_steps import stepper  # noqa: E402

FEW_STEPS = 8
GAIN = 0.3
Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """``work`` on each of ``images`` images; ``planned``: bytes, where the plan has them."""

    name: str
    images: float
    work: Work
    planned: float
    make: Callable[[], Run]


@dataclass(frozen=True)
class Found:
    """What one case took; ``share``: of the peak rate of the number types that it computes in."""

    case: str
    images_per_second: float
    teraflops: float
    share: float
    gigabytes: float
    planned_gigabytes: float


class Bench:
    """The tier's networks with random weights on one device."""

    def __init__(self, config: Path, share: Share, gpu: Gpu, folder: Path) -> None:
        self.tier = load_tier(config)
        self.plan = Plan(self.tier)
        self.load = Workload(self.plan, images_of(self.tier))
        self.share, self.gpu, self.folder = share, gpu, folder
        self.device = set_up(4)
        self.memory = {(m.model, m.kind): m for m in memory_of(self.load)}

    def family(self, name: str, **changes: Any) -> Family:
        sampled = self.plan.sample_spec(self._points(name)[0])
        sampler = sampled.sampler
        if isinstance(sampler, Edm2Sampler):
            sampler = sampler.model_copy(update={"num_steps": FEW_STEPS})
        how = {"sampler": sampler, "decoding": sampled.decoding}
        spec = self.plan.base_spec(name).with_(**how, **changes)
        manifest = self.load.networks[name].manifest
        return make_family(spec, manifest, self._coder(name), self.device)

    def _points(self, name: str) -> Any:
        return self.plan.points(f"{name}-base")

    def _coder(self, name: str) -> Path | None:
        """A file with random weights of a model's tokenizer or autoencoder."""
        model, file = self.tier.models[name], self.folder / f"{name}.safetensors"
        if isinstance(model, VarModel):
            if not file.exists():
                codes = VqvaeConfig(**model.tokenizer.network.model_dump(), img_channels=3)
                save_tensors(file, Vqvae.build(codes, step_generator(1)).state_dict(), {})
            return file
        if not isinstance(model, Edm2Model) or model.autoencoder is None:
            return None
        if not file.exists():
            from diffusers import AutoencoderKL

            vae: Any = AutoencoderKL(**SD_VAE)  # type: ignore[arg-type,no-untyped-call]
            settings = {"config": json.dumps(dict(vae.config), default=str)}
            save_tensors(file, vae.state_dict(), settings)
        return file

    def network(self, family: Family) -> nn.Module:
        """Random weights whose gains let every layer matter, as after training."""
        net = family.build(torch.Generator(self.device).manual_seed(0)).to(self.device)
        for name, parameter in net.named_parameters():
            if name.endswith("gain"):
                nn.init.constant_(parameter, GAIN)
        return net.eval().requires_grad_(False)

    def fixed(self, family: Family) -> nn.Module:
        net = family.frozen(self.network(family))
        self.share.prepare(net)
        return net

    # The cases.

    def sampling(self, name: str, guided: bool) -> Case:
        """The sampler alone, without decoding."""
        model, batch = self.tier.models[name], self.tier.evaluation.batch
        network, guide = self.load.networks[name], self.load.guides.get(name)
        macs = float(network.generation)
        if guided:
            macs += guide.generation if guide else network.generation
        labels, seeds = torch.arange(batch), list(range(batch))

        def make() -> Run:
            family = self.family(name)
            net, weak = self.fixed(family), None
            if guided and guide:
                point = next(p for p in self._points(name) if self.plan.guide(p) == "net")
                spec = self.plan.sample_spec(point).guide_network
                weak = self.fixed(self.family(name, network=spec))
            scale = 1.5 if guided else 0.0
            return torch.no_grad()(lambda: family.generate(net, seeds, labels, scale, guide=weak))

        images = float(batch)
        if isinstance(model, Edm2Model):
            images *= (2 * FEW_STEPS - 1) / model.nfe_of(False)
        planned = self.memory[name, "sampling"].total(batch)
        kind = "sample guided" if guided else "sample"
        return Case(f"{name} {kind}", images, _work(network, macs), planned, make)

    def training(self, name: str, run_id: str) -> Case:
        """One pass of as many samples as fit, forth and back; the optimiser's step with it."""
        settings = self.plan.runs[run_id].settings
        if settings is None:
            raise ValueError(run_id)
        network, passes = self.load.networks[name], objective_passes(settings.objective)
        memory = self.memory[name, f"fine-tuning, {passes.trained} rows"]
        fits = memory.fits(self.gpu.memory)

        def make() -> Run:
            family = self.family(name)
            base, x = self.network(family), self._encoded(name, 2 * fits)
            labels = torch.arange(2 * fits) % 1000
            data = Samples(x, labels, 1000)
            alone = settings.model_copy(update={"batch": fits})
            who = finetune_trainee(family, base, alone, 0, data, data, self.share)
            return stepper(who)

        macs = network.evaluation * passes.evaluations
        title = f"{name} {settings.objective.method} {passes.trained} rows of {fits}"
        return Case(title, fits, _work(network, macs), memory.total(fits), make)

    def _encoded(self, name: str, n: int) -> Tensor:
        """Random data as ``Family.encode`` leaves them."""
        shape, rng = self.load.networks[name].shape, step_generator(2)
        if isinstance(self.tier.models[name], VarModel):
            return torch.randint(4096, (n, *shape), generator=rng)
        return torch.rand((n, *shape), generator=rng)

    def decoding(self, name: str) -> Case:
        batch = self.tier.evaluation.batch

        def make() -> Run:
            family = self.family(name)
            config: Any = family.config  # type: ignore[attr-defined]
            if isinstance(self.tier.models[name], VarModel):
                x = torch.randint(4096, (batch, config.length), generator=step_generator(3))
            else:
                side = config.img_resolution
                x = torch.randn(batch, 4, side, side, generator=step_generator(3))
            x = x.to(self.device)
            return torch.no_grad()(lambda: family.decode(x))

        return Case(f"{name} decode", batch, self.load.decoding(name, 1), 0, make)

    def features(self, name: str, side: int) -> Case:
        settings, batch = self.tier.features[name], self.tier.evaluation.batch

        def make() -> Run:
            if name == "dinov2":
                state = Vit(VIT_L_14).state_dict()
                rng = step_generator(4)
                net: nn.Module = dinov2_of(
                    {k: 0.02 * torch.randn(v.shape, generator=rng) for k, v in state.items()},
                    "torch",
                )
            else:
                random_inception(self.folder / "inception.pth")
                net = load_inception(self.folder / "inception.pth")
            net = net.to(self.device)
            images = torch.randint(256, (batch, 3, side, side), dtype=torch.uint8)
            images = images.to(self.device)
            return torch.no_grad()(lambda: net(images))

        work = Work(single=feature_macs(settings, 3, side, 1000))
        return Case(f"{name} of {side}px", batch, work, 0, make)

    def neighbours(self, n: int, dimensions: int) -> Case:
        """Precision and recall of n images with n others."""

        def make() -> Run:
            rng = step_generator(5)
            real, made = torch.randn(2, n, dimensions, generator=rng)
            return lambda: Reference(real, 3, device=self.device).precision_recall(made)

        # In float64, which the plan counts on processors.
        return Case(f"precision, recall of {n}", n, Work(cpu=3 * n * dimensions), 0, make)

    def all(self) -> Iterator[Case]:
        """Every case."""
        for name, run in (
            ("edm2-s", "edm2-s-mclr-lr1e-05-seed0"),
            ("edm2-l", "edm2-l-mclr-lr1e-05-seed0"),
            ("var-d24", "var-d24-mclr-lr1e-05-seed0"),
        ):
            yield self.sampling(name, False)
            yield self.sampling(name, True)
            yield self.training(name, run)
            if name != "edm2-s":
                yield self.decoding(name)
        yield self.features("dinov2", 64)
        yield self.features("inception", 64)
        yield self.neighbours(50_000, 2048)


def _work(network: Cost, macs: float) -> Work:
    return Work(half=macs) if network.half else Work(single=macs)


def measure(case: Case, rounds: int, gpu: Gpu) -> Found:
    """Median of some rounds after a first one."""
    run = case.make()
    timed(run)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds = [timed(run) for _ in range(rounds)]
    peak = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
    rate = case.images / statistics.median(seconds)
    flops, share = 2 * case.work.macs * rate, rate * case.work.gpu_seconds(gpu, 1)
    return Found(case.name, rate, flops / 1e12, share, peak / 1e9, case.planned / 1e9)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "imagenet.yaml")
    parser.add_argument("--gpu", choices=list(GPUS), default="h100")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="*", help="names, or parts of names; default: all")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--checkpointing", action="store_true", help="train with fewer activations")
    parser.add_argument("--json", type=Path, help="write what was found to a file, too")
    options = parser.parse_args()
    found = []
    print(f"{'case':32} {'images/s':>9} {'Tflop/s':>8} {'share':>6} {'GB':>6} {'plan':>6}")
    with tempfile.TemporaryDirectory() as folder:
        share = Share(checkpointing=options.checkpointing, compiled=options.compile)
        bench = Bench(options.config, share, GPUS[options.gpu], Path(folder))
        for case in bench.all():
            if options.cases is not None and not any(part in case.name for part in options.cases):
                continue
            try:
                row = measure(case, options.rounds, bench.gpu)
            except torch.cuda.OutOfMemoryError:
                print(f"{case.name:32} out of memory; plan {case.planned / 1e9:.1f} GB", flush=True)
                torch.cuda.empty_cache()
                continue
            found.append(row)
            print(
                f"{row.case:32} {row.images_per_second:9.2f} {row.teraflops:8.1f} "
                f"{row.share:6.1%} {row.gigabytes:6.1f} {row.planned_gigabytes:6.1f}",
                flush=True,
            )
            torch.cuda.empty_cache()
            if options.json:
                options.json.write_text(json.dumps([asdict(row) for row in found], indent=2))


if __name__ == "__main__":
    main()
