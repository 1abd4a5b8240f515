"""A pass of a network without computing it: multiply-adds, and memory that lives at once.

The multiply-adds are those of matrix products and convolutions, which the papers call flops;
normalisation, activations and other operations per element are left out (1 % of EDM2). Tensors are
fake: they have shapes but no memory, so the largest preset is counted on a laptop. What is counted
as memory are the tensors that the pass makes, not the parameters.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Net = TypeVar("Net", bound=nn.Module)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Trace:
    """Multiply-adds of a pass, and the most bytes of its tensors that lived at once."""

    macs: int
    peak: int


def trace(
    make: Callable[[], Net],
    evaluate: Callable[[Net], Any],
    *,
    grad: bool = False,
    free: Callable[[Shape], bool] = lambda shape: False,
) -> Trace:
    """``evaluate`` on the network that ``make`` makes on the meta device.

    grad: as for training, so that all a gradient needs stays. free: shapes that take no memory on
    the machine in question.
    """
    with torch.device("meta"):
        net = make().train(grad).requires_grad_(grad)
    with FakeTensorMode(), torch.set_grad_enabled(grad):
        _materialise(net)
        return measured(net, evaluate, free)


MANY = 1_000_003
"""Rows of a pass that stands for passes of any number: a prime, which no size of a network has."""


def trace_rows(
    make: Callable[[], Net],
    evaluate: Callable[[Net, int], Any],
    counts: tuple[int, ...],
    *,
    grad: bool = False,
) -> dict[int, Trace]:
    """``evaluate`` on each number of rows, by a single pass on the meta device.

    A pass does the same on any number of rows, and a tensor whose bytes are divisible by ``MANY``
    has a row for each.
    """
    with torch.device("meta"), torch.set_grad_enabled(grad):
        net = make().train(grad).requires_grad_(grad)
        watch = _watched(net, lambda net: evaluate(net, MANY), lambda shape: False, counts)
    per_row, rest = divmod(watch.flops // 2, MANY)
    if rest:
        raise ValueError(f"multiply-adds {watch.flops // 2} are not {MANY} times those of a row")
    peaks = zip(counts, watch.peaks, strict=True)
    return {count: Trace(per_row * count, peak) for count, peak in peaks}


def measured(
    net: Net,
    evaluate: Callable[[Net], Any],
    free: Callable[[Shape], bool] = lambda shape: False,
) -> Trace:
    """``evaluate`` on a network as it is."""
    watch = _watched(net, evaluate, free, ())
    return Trace(watch.flops // 2, watch.peaks[0])


def _watched(
    net: Net,
    evaluate: Callable[[Net], Any],
    free: Callable[[Shape], bool],
    counts: tuple[int, ...],
) -> _Watch:
    watch = _Watch(free, counts)
    watch.ignore(net)
    with watch:
        result = evaluate(net)
    del result
    return watch


def parameters(net: nn.Module) -> int:
    """Numbers in the state of a network: what its file holds."""
    return sum(value.numel() for value in net.state_dict().values())


def _materialise(net: nn.Module) -> None:
    """Fake tensors in the place of those on the meta device, for which torch has no autocast."""
    for module in net.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            fake = torch.empty(value.shape, dtype=value.dtype)
            setattr(module, name, nn.Parameter(fake, requires_grad=value.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _as_computed(out: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The result of a convolution with channels last where they are so in what goes in.

    So it is on every machine, and the meta device alone does not say so.
    """
    last = torch.channels_last
    if x.ndim == 4 and last in (suggest_memory_format(x), suggest_memory_format(weight)):
        return torch.empty_like(out, memory_format=last)
    return out


class _Watch(TorchDispatchMode):
    """Adds up the operations, and the storages that they make for as long as those live.

    counts: numbers of rows that a pass of ``MANY`` rows stands for; none if it is as it is.

    torch has a mode for the former, which costs as much again as the pass itself; its table of
    formulas is used here.
    """

    def __init__(self, free: Callable[[Shape], bool], counts: tuple[int, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.free, self.known, self.flops = free, set[int](), 0
        self.counts, self.now = counts, [0] * max(1, len(counts))
        self.peaks = [*self.now]

    def ignore(self, net: nn.Module) -> None:
        """Views of parameters and buffers are no new memory."""
        for value in (*net.parameters(), *net.buffers()):
            self.known.add(value.untyped_storage()._cdata)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and out.is_meta:
            out = _as_computed(out, *args[:2])
        if func is torch.ops.prim.device.default:
            return out
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and not self.free(tuple(tensor.shape)):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            rows = 0 if size % MANY else size // MANY
            sizes = [rows * count or size for count in self.counts] or [size]
            self.now = [now + more for now, more in zip(self.now, sizes, strict=True)]
            self.peaks = [*map(max, self.peaks, self.now)]
            weakref.finalize(storage, self._gone, key, sizes)

    def _gone(self, key: int, sizes: list[int]) -> None:
        self.known.discard(key)
        self.now = [now - less for now, less in zip(self.now, sizes, strict=True)]
