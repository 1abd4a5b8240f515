"""How fast machines are, and what that makes of multiply-adds.

A multiply-add is two floating-point operations, the unit of data sheets. Peak rates are dense (no
sparsity). float32 has the rate of plain float32: jobs switch TF32 off (``mclr.device``) where a
model does not ask for it (``decoding: tf32``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A GPU: peak operations per second by the type of the numbers, bytes of memory."""

    label: str
    peak_16: float
    peak_tf32: float
    peak_32: float
    memory: float
    source: str


GPUS = {
    "a100": Gpu(
        "A100 SXM", 312e12, 156e12, 19.5e12, 80e9, "NVIDIA A100 data sheet, nvidia-1758950-r4"
    ),
    "h100": Gpu(
        "H100 SXM",
        989.4e12,
        494.7e12,
        66.9e12,
        80e9,
        "NVIDIA H100 architecture white paper, table 2",
    ),
    "h200": Gpu(
        "H200 SXM", 989.4e12, 494.7e12, 66.9e12, 141e9, "NVIDIA H200 data sheet: the H100's chip"
    ),
}


def core(rate: float, memory: float, source: str) -> Gpu:
    """A processor core in the place of a GPU; rate: operations a second, reached and not peak."""
    return Gpu("core", rate, rate, rate, memory, source)


UTILISATION = 0.2
"""Share of the peak that training and sampling reach; docs/cost.md compares published runs."""

CPU_RATE = 50e9
"""Operations per second of a job that computes on a processor: one core, float64."""

START_SECONDS = 10.0
"""Of every job: the workflow's rules, Python and its libraries (docs/scale.md), reading files."""


@dataclass(frozen=True)
class Work:
    """Multiply-adds of one job, by the numbers they are done in; ``cpu``: not on a GPU."""

    half: float = 0.0
    tf32: float = 0.0
    single: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.half + other.half,
            self.tf32 + other.tf32,
            self.single + other.single,
            self.cpu + other.cpu,
        )

    def __mul__(self, count: float) -> Work:
        return Work(self.half * count, self.tf32 * count, self.single * count, self.cpu * count)

    @property
    def macs(self) -> float:
        return self.half + self.tf32 + self.single + self.cpu

    @property
    def needs_gpu(self) -> bool:
        return self.macs > self.cpu

    def gpu_seconds(self, gpu: Gpu, utilisation: float) -> float:
        """Seconds on one GPU at a share of its peak."""
        peaks = gpu.peak_16, gpu.peak_tf32, gpu.peak_32
        amounts = self.half, self.tf32, self.single
        return 2 * sum(a / peak for a, peak in zip(amounts, peaks, strict=True)) / utilisation

    def seconds(self, gpu: Gpu, utilisation: float) -> float:
        """Seconds from the start of the job to its end."""
        return START_SECONDS + self.gpu_seconds(gpu, utilisation) + 2 * self.cpu / CPU_RATE
