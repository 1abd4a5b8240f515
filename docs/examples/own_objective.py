"""An objective of one's own: identity preference optimisation (IPO) over inter-class pairs.

python docs/examples/own_objective.py results/digits/runs/edm2-base results/own-objective
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from mclr.data.load import load_images, load_manifest, minibatch, step_generator
from mclr.events import EventLog
from mclr.models import load_network, make_family
from mclr.objectives import (
    Batch,
    Contrast,
    LogLikelihood,
    Loss,
    draw_partners,
    preference_log_ratios,
    preference_terms,
)
from mclr.training.loop import train
from mclr.training.state import StateFolder
from mclr.training.trainee import Trainee


# --8<-- [start:loss]
@dataclass(frozen=True)
class Ipo:
    """The margin log p_θ/p_ref (x_w) − log p_θ/p_ref (x_l) is drawn to 1/(2β)."""

    beta: float
    K: int = 1


# Azar et al. (arXiv 2310.12036), Eq. 17, on the pairs of CC-DPO.
def ipo_loss(
    objective: Ipo,
    policy: LogLikelihood,
    reference: LogLikelihood,
    batch: Batch,
    contrast: Contrast,
    part: Tensor,
) -> Loss:
    """Mean of (margin − 1/(2β))² over the tuples; share of the samples ``part`` (P,)."""
    ratios = preference_log_ratios(policy, reference, batch, contrast, part)
    margin = ratios.preferred - ratios.other
    return Loss(
        contrast.mean((margin - 1 / (2 * objective.beta)) ** 2, part),
        preference_terms(ratios.preferred, ratios.other, contrast, part),
    )


# --8<-- [end:loss]
# --8<-- [start:run]
def finetune(base: Path, data: Path, output: Path, objective: Ipo, steps: int = 40) -> Path:
    """Fine-tune the base model of the run folder ``base``; the file of its new weights."""
    spec = yaml.safe_load((base / "config.yaml").read_text())
    family = make_family(spec, load_manifest(data / "manifest.json"))
    images, labels = load_images(data / "train.parquet", load_manifest(data / "manifest.json"))
    x = family.encode(images)
    frozen = load_network(family, max(base.glob("checkpoints/*.safetensors")))
    net = copy.deepcopy(frozen).train().requires_grad_(True)

    def losses(step: int) -> Iterator[Loss]:
        rows, rng = minibatch(len(x), 64, step, seed=0), step_generator(0, step, 3)
        values = family.from_encoded(x[rows], rng)
        batch = Batch(values, labels[rows], family.draw(values, rng))
        yield ipo_loss(
            objective,
            lambda x, c, draw: family.log_likelihood(net, x, c, draw),
            lambda x, c, draw: family.log_likelihood(frozen, x, c, draw),
            batch,
            draw_partners(batch.labels, objective.K, rng),
            torch.arange(len(rows)),
        )

    optimizer = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99))
    state = StateFolder(output, key=f"{objective} {base} {steps}")
    train(
        Trainee(net, optimizer, lambda step: 0.0003, losses, family.after_step),
        name="ipo",
        checkpoints=(steps,),
        batch=64,
        seed=0,
        state=state,
        events=EventLog(output / "events.jsonl"),
    )
    return state.checkpoint(steps)


if __name__ == "__main__":
    base, output = map(Path, sys.argv[1:])
    print(finetune(base, Path("data/prepared/digits"), output, Ipo(beta=0.02, K=4)))
# --8<-- [end:run]
