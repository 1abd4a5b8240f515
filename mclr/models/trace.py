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
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

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


def measured(
    net: Net,
    evaluate: Callable[[Net], Any],
    free: Callable[[Shape], bool] = lambda shape: False,
) -> Trace:
    """``evaluate`` on a network as it is."""
    counter, live = FlopCounterMode(display=False), _Live(free)
    live.ignore(net)
    with counter, live:
        result = evaluate(net)
    del result
    return Trace(int(counter.get_total_flops()) // 2, live.peak)


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


class _Live(TorchDispatchMode):
    """Adds up the storages that operations make, for as long as they live."""

    def __init__(self, free: Callable[[Shape], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.free, self.known, self.now, self.peak = free, set[int](), 0, 0

    def ignore(self, net: nn.Module) -> None:
        """Views of parameters and buffers are no new memory."""
        for value in (*net.parameters(), *net.buffers()):
            self.known.add(value.untyped_storage()._cdata)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and not self.free(tuple(tensor.shape)):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size
