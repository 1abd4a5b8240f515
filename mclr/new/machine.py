"""The machine that a tier is to run on: cores or a GPU, memory, and how fast networks are there."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable
from dataclasses import dataclass
from statistics import median

import torch

from mclr.cost.images import Images
from mclr.cost.passes import BASE
from mclr.device import CPU
from mclr.errors import UserError
from mclr.models.config import Model
from mclr.models.cost import Cost
from mclr.models.costs import cost_of
from mclr.models.precision import DTYPES, NARROW, cpu_has_bfloat16
from mclr.settings.section import Precision

GPU_PRECISION: dict[str, Precision] = {
    "edm2": "float16",
    "var": "bfloat16",
    "diffusers": "bfloat16",
}
"""Where float16 would need scaled losses to train a transformer, bfloat16 does not."""

ON_A_GPU = 4
"""Jobs that share a GPU: their Python takes turns with its work."""

LARGE = 50e6
"""Parameters above which a narrower network of the kind is timed, which takes a second."""

PASS_MACS = {False: 5e9, True: 500e9}
"""Multiply-adds of a timed step on a core, and on a GPU."""

MOST_ROWS = 128
"""As in a minibatch: on small networks what a step does besides counts."""

REPEATS = (2, 5)
"""Least and most steps that are timed."""

ENOUGH = 1.0
"""Seconds of timed steps after which no more than the least are taken: long ones scatter less."""


@dataclass(frozen=True)
class Machine:
    """Cores given to Snakemake, and the GPU if there is one: its name, '' without.

    memory: bytes that networks compute in, of the GPU or of the machine. ram: of the machine.
    """

    cores: int
    gpu: str
    memory: float
    ram: float

    @property
    def device(self) -> torch.device:
        return torch.device("cuda") if self.gpu else CPU

    @property
    def jobs(self) -> int:
        """Jobs at a time: what to give Snakemake as --cores."""
        return min(self.cores, ON_A_GPU) if self.gpu else self.cores

    @property
    def text(self) -> str:
        """In words, for comments and summaries."""
        return self.gpu or f"{self.cores} core{'s' if self.cores > 1 else ''}"

    def precision(self, family: str, channels: int) -> Precision:
        """The numbers that a network of this width is fastest in here."""
        if self.gpu:
            return GPU_PRECISION[family]
        return "bfloat16" if channels >= NARROW["edm2"] and cpu_has_bfloat16() else "float32"


def this_machine(cores: int | None = None, device: str = "auto") -> Machine:
    """The machine this runs on; ``cores``: as many as Snakemake is to use, all if absent.

    Raises:
        UserError: ``device`` is cuda, and there is none.
    """
    count = cores or len(os.sched_getaffinity(0))
    ram = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if device != "cpu" and torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Machine(count, found.name, float(found.total_memory), ram)
    if device == "cuda":
        raise UserError("--device cuda: torch finds no CUDA GPU; use --device cpu (or auto)")
    return Machine(count, "", ram, ram)


def load_in_words() -> str:
    """That others use this machine, too; empty where no more than a quarter of it is in use."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load <= cores / 4:
        return ""
    plural = "s" if cores > 1 else ""
    return (
        f"This machine is busy: load {load:.1f} on {cores} core{plural}. "
        "The time told is that of a quiet one."
    )


def rate(model: Model, images: Images, machine: Machine) -> float:
    """Multiply-adds a second of training steps of a model: on one core, or on the GPU."""
    cost = cost_of(model, images.manifest(model.resolution))
    if cost.parameters > LARGE:
        cost = cost.narrower()
    macs = BASE.evaluations * cost.evaluation
    rows = min(MOST_ROWS, max(1, int(PASS_MACS[bool(machine.gpu)] // macs)))
    key = cost.key, model.precision, rows, machine.device
    if key not in _SECONDS:
        _SECONDS[key] = _seconds(cost, DTYPES[model.precision], rows, machine.device)
    return macs * rows / _SECONDS[key]


_SECONDS: dict[Hashable, float] = {}
"""What was timed: by network, number type, rows and device."""


def _seconds(cost: Cost, dtype: torch.dtype, rows: int, device: torch.device) -> float:
    """The median of a few training steps after one that warms up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a job has
    try:
        net = cost.build().to(device).train().requires_grad_(True)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.0)
        found: list[float] = []
        while len(found) <= REPEATS[0] or (sum(found[1:]) < ENOUGH and len(found) <= REPEATS[1]):
            start = _now(device)
            cost.evaluate(net, rows, dtype, device).float().square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
            cost.restore(net)
            found.append(_now(device) - start)
        return median(found[1:])
    finally:
        torch.set_num_threads(threads)


def _now(device: torch.device) -> float:
    """Seconds; of a core its own, since other processes may be using the machine."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
