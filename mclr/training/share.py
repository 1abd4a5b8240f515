"""Which samples of a minibatch a process takes, and how many at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mclr.device import CPU
from mclr.errors import UserError
from mclr.models.compiled import compile_


@dataclass(frozen=True)
class Share:
    """The share of process ``rank`` of ``size``, in micro-batches of ``micro_batch`` samples.

    A matter of the machine, not of the experiment: every share gives the gradient of the whole
    minibatch. ``micro_batch`` 0 takes all of the process's samples in one pass. ``checkpointing``
    trades time for memory in networks that can do so (``mclr.models.edm2.network.UNet``);
    ``compiled`` trades a slow start for speed (``mclr.models.compiled``).
    """

    micro_batch: int = 0
    rank: int = 0
    size: int = 1
    checkpointing: bool = False
    compiled: bool = False

    def prepare(self, net: nn.Module) -> None:
        """Tell a network whether to keep its activations, and compile it if that is wanted."""
        if self.compiled:
            compile_(net)
        for module in net.modules():
            if hasattr(module, "checkpointing"):
                module.checkpointing = self.checkpointing  # type: ignore[assignment]

    def parts(self, n: int, device: torch.device = CPU) -> list[Tensor]:
        """Rows of the minibatch of n samples that this process takes, one tensor per pass."""
        if n < self.size:
            raise UserError(
                f"batch {n}: fewer samples than the {self.size} processes; use fewer processes"
            )
        begin, end = (n * r // self.size for r in (self.rank, self.rank + 1))
        rows = torch.arange(begin, end, device=device)
        return list(rows.split(self.micro_batch or end - begin))

    def pass_size(self, n: int) -> int:
        """Samples of the largest pass of a minibatch of n samples."""
        return len(self.parts(n)[0])


WHOLE = Share()
"""All of the minibatch, in one pass."""
