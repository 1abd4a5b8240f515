"""CUDA graphs: the kernels of a pass are recorded once, and from then on started all at once.

A CPU takes 20 to 30 ms to start the 900 kernels of an EDM2 pass one by one, longer than a GPU
needs to compute them for a few images, or for any number of images of a small network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]
Recorded = tuple[Callable[[], None], Tensor]
"""What computes the function's result again, of what its inputs hold then, and that result."""
Inputs = tuple[Tensor, ...]


class Replayed:
    """A function of tensors without gradients, recorded for each shape of its inputs: same bits.

    It must compute all of its result on the GPU, the same way whatever numbers its inputs hold.
    The memory of the largest recorded pass stays taken. record: how it is recorded.
    """

    def __init__(
        self, function: Function, record: Callable[[Function, Inputs], Recorded] | None = None
    ) -> None:
        self._function, self._given, self._record = function, record, record or _OnGpu()
        self._recorded: dict[Any, tuple[Inputs, Recorded]] = {}

    def __deepcopy__(self, memo: Any) -> Replayed:
        """Of a copied function nothing is recorded yet."""
        return Replayed(copy.deepcopy(self._function, memo), self._given)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's result of these inputs."""
        key = tuple((x.shape, x.dtype, x.device) for x in inputs)
        if key not in self._recorded:
            own = tuple(x.clone() for x in inputs)
            self._recorded[key] = own, self._record(self._function, own)
        own, (replay, result) = self._recorded[key]
        for mine, given in zip(own, inputs, strict=True):
            mine.copy_(given)
        replay()
        return result.clone()


class Recordings(dict[Any, Replayed]):
    """Of one network, by what they depend on beside its weights; a copy of it has none."""

    def __deepcopy__(self, memo: Any) -> Recordings:
        return Recordings()


def can_record(device: torch.device) -> bool:
    """Whether passes on ``device`` can be recorded."""
    return device.type == "cuda" and torch.cuda.is_available()


class _OnGpu:
    """Records on a GPU, all in the same memory: they run one at a time, and results are copied."""

    def __init__(self) -> None:
        self.pool: Any = None

    def __call__(self, function: Function, inputs: Inputs) -> Recorded:
        # What happens at first use alone, such as choosing kernels, is no part of a recording.
        beside, here = torch.cuda.Stream(), torch.cuda.current_stream()
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            function(*inputs)
        here.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # The thread that watches over collectives of several processes may go on asking the GPU.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            result = function(*inputs)
        self.pool = graph.pool()
        return graph.replay, result
