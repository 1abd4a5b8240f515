"""What a training job trains: a network with its optimiser, and all that changes on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mclr.objectives.loss import Loss

DECAYS = "decays"
"""Key of a group of parameters that weight decay is for."""


@dataclass
class Trainee:
    """What is trained: a network, its optimiser, and optionally an average of its weights.

    ``losses`` gives the parts of a step's loss; they are back-propagated one after the other.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    learning_rate: Callable[[int], float]
    losses: Callable[[int], Iterable[Loss]]
    after_step: Callable[[nn.Module], None] = lambda net: None
    ema: nn.Module | None = None
    ema_std: float = 0.0
    pass_size: int = 0
    """Samples of the largest forward pass of a process, for messages; 0: unknown."""
    half_life: float = 0.0
    """Steps after which weights count half in ``ema``, in the place of ``ema_std``; 0: by that."""
    kept: tuple[bool, ...] = ()
    """Whose weights are checkpoints: False the raw ones, True the average's, in a file of another
    name. Empty: those of ``result`` alone."""
    clip: float | None = None
    """Largest norm of a gradient."""
    weight_decay: Callable[[int], float] | None = None
    """Of the optimiser's groups that are marked for it, at each step."""

    @property
    def result(self) -> nn.Module:
        """The network whose weights are the outcome: the average, where there is one."""
        return self.ema if self.ema is not None else self.net

    @property
    def results(self) -> list[tuple[nn.Module, bool]]:
        """The networks whose weights are kept, and whether the file says that it is an average."""
        if not self.kept:
            return [(self.result, False)]
        return [(self.result if averaged else self.net, averaged) for averaged in self.kept]

    def set_rates(self, step: int) -> float:
        """Tell the optimiser learning rate and weight decay of a step; returns the former."""
        lr = self.learning_rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
            if self.weight_decay and group.get(DECAYS):
                group["weight_decay"] = self.weight_decay(step)
        return lr

    def state(self) -> dict[str, Tensor]:
        """Everything that changes during training, as named tensors on the CPU."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in values.items()}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``state``, on any device."""
        parts: dict[str, dict[str, Tensor]] = {"net": {}, "ema": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor
        self.net.load_state_dict(parts["net"])
        if self.ema is not None:
            self.ema.load_state_dict(parts["ema"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
