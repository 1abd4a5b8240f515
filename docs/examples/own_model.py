"""A model family of one's own: a recurrent network that writes an image pixel by pixel.

python docs/examples/own_model.py data/prepared/digits results/own-model
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from mclr.config.models import VarBase
from mclr.config.objectives import FineTuning
from mclr.data.load import Manifest, load_images, load_manifest
from mclr.device import CPU
from mclr.events import EventLog
from mclr.likelihood import Draw, token_log_likelihood
from mclr.models.family import Family
from mclr.sampling.var import inverse_cdf, seeded_uniforms
from mclr.training.base import base_trainee
from mclr.training.finetune import Samples, finetune_trainee
from mclr.training.loop import train
from mclr.training.state import StateFolder
from mclr.training.trainee import Trainee


# --8<-- [start:network]
class PixelRnn(nn.Module):
    """The logits of each pixel's grey level, given the class and the pixels before it."""

    def __init__(self, pixels: int, levels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.levels = levels
        self.level = nn.Embedding(levels + 1, width)  # the last one: before the first pixel
        self.place = nn.Embedding(pixels, width)
        self.label = nn.Embedding(classes + 1, width)  # the last one: the null label
        self.recurrent = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, levels)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, L, levels) of pixels x (N, L) under labels (N,)."""
        before = torch.cat([torch.full_like(x[:, :1], self.levels), x[:, :-1]], dim=1)
        inputs = self.level(before) + self.place.weight + self.label(labels)[:, None]
        logits: Tensor = self.head(self.recurrent(inputs)[0])
        return logits


# --8<-- [end:network]
# --8<-- [start:family]
class PixelFamily:
    """See ``mclr.models.family.Family``; x is the grey level of each pixel, (N, L)."""

    def __init__(self, manifest: Manifest, levels: int = 4, device: torch.device = CPU) -> None:
        self.manifest, self.levels, self.device = manifest, levels, device

    def build(self, generator: torch.Generator) -> nn.Module:
        pixels = self.manifest.channels * self.manifest.resolution**2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return PixelRnn(pixels, self.levels, self.manifest.num_classes)

    def encode(self, images: Tensor) -> Tensor:
        return images.flatten(1).long() * self.levels // 256

    def from_encoded(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return rows

    def decode(self, x: Tensor) -> Tensor:
        grey = x * 255 // (self.levels - 1)
        return grey.to(torch.uint8).view(-1, *self.manifest.shape)

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        return Draw()  # an exact likelihood needs no noise

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        return token_log_likelihood(net(x, labels), x)

    def base_loss(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        return -self.log_likelihood(net, x, labels, draw).mean() / x.shape[1]

    def after_step(self, net: nn.Module) -> None:
        """No constraint."""

    def frozen(self, net: nn.Module) -> nn.Module:
        return net

    @torch.no_grad()
    def generate(
        self,
        net: nn.Module,
        seeds: Sequence[int],
        labels: Tensor,
        guidance: float,
        *,
        guide: nn.Module | None = None,
        interval: tuple[float, float] | None = None,
    ) -> Tensor:
        uniforms = seeded_uniforms(seeds, self.manifest.channels * self.manifest.resolution**2)
        x = torch.zeros(uniforms.shape, dtype=torch.long)
        nobody = torch.full_like(labels, self.manifest.num_classes)
        for pixel in range(x.shape[1]):
            logits = net(x, labels)[:, pixel]
            if guidance:
                logits = logits + guidance * (logits - net(x, nobody)[:, pixel])
            x[:, pixel] = inverse_cdf(logits.softmax(-1), uniforms[:, pixel])
        return x


# --8<-- [end:family]
# --8<-- [start:run]
BASE = VarBase(
    seed=0, steps=60, batch=64, lr=0.005, warmup_steps=10, weight_decay=0.0, label_dropout=0.1
)
TUNING = FineTuning.model_validate(
    {
        "model": "pixels",
        "objective": {"name": "mclr", "K": 4, "dsm": 4},
        "lr": 0.001,
        "batch": 64,
        "checkpoints": [20],
    }
)


def run(data: Path, output: Path) -> tuple[PixelFamily, nn.Module, nn.Module]:
    """Train the base model and fine-tune it; the family and both networks."""
    manifest = load_manifest(data / "manifest.json")
    images, labels = load_images(data / "train.parquet", manifest)
    family = PixelFamily(manifest)
    x = family.encode(images)
    base = base_trainee(family, BASE, x, labels, manifest.num_classes)
    keep(base, "base", BASE.steps, BASE.batch, output)
    reference = base.result.eval().requires_grad_(False)
    tuned = finetune_trainee(
        family, reference, TUNING, seed=0, data=Samples(x, labels, manifest.num_classes)
    )
    keep(tuned, "mclr", TUNING.checkpoints[-1], TUNING.batch, output)
    return family, reference, tuned.result.eval()


def keep(trainee: Trainee, name: str, steps: int, batch: int, output: Path) -> None:
    """Train, writing weights to <output>/<name>; killed and run again, it resumes."""
    train(
        trainee,
        name=name,
        checkpoints=(steps,),
        batch=batch,
        seed=0,
        state=StateFolder(output / name, key=f"{BASE} {TUNING}"),
        events=EventLog(output / name / "events.jsonl"),
    )


@torch.no_grad()
def class_accuracy(family: Family, net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images whose own class is the one under which they are likeliest."""
    x, classes = family.encode(images), int(labels.max()) + 1
    values = [
        family.log_likelihood(net, x, torch.full_like(labels, c), Draw()) for c in range(classes)
    ]
    return float((torch.stack(values).argmax(0) == labels).double().mean())


if __name__ == "__main__":
    data, output = map(Path, sys.argv[1:])
    family, base, tuned = run(data, output)
    images, labels = load_images(data / "reference.parquet", family.manifest)
    print(f"base {class_accuracy(family, base, images, labels):.3f}")
    print(f"mclr {class_accuracy(family, tuned, images, labels):.3f}")
    sample = family.generate(tuned, range(10), torch.arange(10), guidance=0.0)
    Image.fromarray(torch.cat(list(family.decode(sample)[:, 0]), dim=1).numpy()).save(
        output / "mclr.png"
    )
# --8<-- [end:run]
