"""Does a GPU compute what the CPU computes? `python benchmarks/gpu.py` on a machine with one.

For every objective the loss and gradient of a step, and for every sampler the images, of the same
networks, data and random draws: the largest difference to the CPU as a share of the largest value,
and whether the GPU gives the same bits when asked again. The exit status is 1 where a difference
exceeds what float32 sums in another order give. Speed: `python benchmarks/speed.py --device cuda`.
"""

import argparse
import sys
from collections.abc import Callable, Iterator

import torch
from speed_cases import CLASSES, IMITATIONS, OBJECTIVES, SAMPLES, Bench
from torch import Tensor

from mclr.config.objectives import FineTuning
from mclr.device import CPU, NAMES, set_up
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.gradient import accumulate

TOLERANCE = {"step": 1e-3, "sample": 1e-2}


def step(bench: Bench, kind: str, objective: dict[str, object]) -> Tensor:
    """Loss and gradient of one fine-tuning step, as one vector."""
    family = bench.family(kind, "float32")
    settings = FineTuning.model_validate(
        {"model": kind, "objective": objective, "lr": 1e-4, "batch": 16, "checkpoints": [1]}
    )
    # Encoded on the CPU for both: a token that lies on an edge may fall to the other side.
    x = Bench(bench.size, bench.batch).family(kind, "float32").encode(bench.images)
    data = Samples(x, bench.labels, CLASSES)
    who = finetune_trainee(family, bench.base(family), settings, 0, data, data)
    loss = accumulate(who.losses(3))["loss"].float().view(1)
    gradients = [p.grad.flatten() for p in who.net.parameters() if p.grad is not None]
    return torch.cat([loss, *gradients]).cpu()


@torch.no_grad()
def images(bench: Bench, kind: str, guidance: float) -> Tensor:
    """Images of the same seeds, as the network models them, decoded."""
    family = bench.family(kind, "float32")
    labels = bench.labels[:SAMPLES]
    net = family.frozen(bench.base(family))  # as jobs do, whose passes are recorded
    x = family.generate(net, list(range(SAMPLES)), labels, guidance)
    return family.decode(x).float().cpu()


def cases() -> Iterator[tuple[str, str, Callable[[Bench], Tensor]]]:
    """Name, kind of tolerance, and what is compared."""
    for kind in ("edm2", "var"):
        for name, objective in (OBJECTIVES | IMITATIONS).items():
            yield f"{kind} {name}", "step", lambda b, k=kind, o=objective: step(b, k, o)  # type: ignore[misc]
        for guidance in (0.0, 1.5):
            yield (
                f"{kind} sample {guidance:g}",
                "sample",
                (
                    lambda b, k=kind, g=guidance: images(b, k, g)  # type: ignore[misc]
                ),
            )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=NAMES, default="cuda")
    parser.add_argument("--size", choices=["digits", "fashion"], default="fashion")
    options = parser.parse_args()
    device, wrong = set_up(1, options.device), []
    there, here = Bench(options.size, 16, CPU), Bench(options.size, 16, device)
    print(f"{'case':18} {'difference':>10} same bits again")
    for name, tolerance, compute in cases():
        expected, found = compute(there), compute(here)
        difference = (found - expected).abs()
        # Samples by their mean, again for tokens on an edge.
        worst = difference.mean() if tolerance == "sample" else difference.max()
        share = float(worst / expected.abs().max())
        again = torch.equal(compute(here), found)
        print(f"{name:18} {share:10.1e} {'yes' if again else 'NO'}", flush=True)
        if not (share <= TOLERANCE[tolerance] and again):
            wrong.append(name)
    sys.exit(f"differ: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
