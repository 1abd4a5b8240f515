"""Magnitude-preserving operations: the parts an EDM2 network is made of.

Equation numbers are those of Karras et al. 2024 (arXiv 2312.02696).

Legend for shapes: N batch, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Resample = Literal["keep", "down", "up"]
Gain = Tensor | float
EPS = 1e-4  # keeps a zero vector finite in normalisation
SILU_RMS = 0.596  # root mean square of SiLU under N(0, 1) inputs, Eq. 81


def _rms(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Root mean square over ``dims``, which are kept; at least float32."""
    if x.dtype in (torch.bfloat16, torch.float16):  # their squares may round badly or overflow
        norm: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=True, dtype=torch.float32)
        return norm.mul_(math.sqrt(norm.numel() / x.numel()))
    return x.square().mean(dim=dims, keepdim=True).sqrt_()


class _UnitRms(torch.autograd.Function):
    """x / (rms(x) + EPS): autograd's own gradient takes twice the passes over x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        rms = _rms(x, dims)
        divisor = (rms + EPS).to(x.dtype)
        y = x / divisor
        ctx.dims = dims
        ctx.save_for_backward(y, rms, divisor)
        return y

    # dL/dx = g / (rms + EPS) - y mean(g y) / rms; y, and with it the second term, is 0 where x is
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        y, rms, divisor = ctx.saved_tensors
        (g,) = grads
        mean = (g * y).mean(dim=ctx.dims, keepdim=True, dtype=rms.dtype)
        share = (mean / rms.clamp_min(1e-30)).to(y.dtype)
        return (g / divisor).addcmul_(y, share, value=-1), None


# Section 2.4 (pixel norm) and, over a weight's rows, Eq. 66 (forced weight normalisation)
def normalize(x: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """Scale ``x`` to root-mean-square 1 over ``dim`` (default: all but the first); same shape."""
    dims = tuple(range(1, x.ndim)) if dim is None else dim
    out: Tensor = _UnitRms.apply(x, dims)
    return out


# Eq. 81
def mp_silu(x: Tensor) -> Tensor:
    """SiLU divided by its root mean square under N(0, 1) inputs; same shape."""
    return F.silu(x).div_(SILU_RMS)


# Eq. 88
def mp_sum(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """Blend (1-t) a + t b of broadcastable unit-variance tensors, keeping unit variance."""
    share_a, share_b = sum_shares(t)
    return add_scaled(a * share_a, b, share_b)


# torch.compile (2.14) may turn a sum with alpha into addmm and lose alpha without a word
# (github.com/pytorch/pytorch/issues/167313), so compiled code multiplies first.
def add_scaled(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """a + factor b, in one pass."""
    return a + factor * b if torch.compiler.is_compiling() else torch.add(a, b, alpha=factor)


def add_scaled_(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """a + factor b, in the place of a."""
    return a + factor * b if torch.compiler.is_compiling() else a.add_(b, alpha=factor)


def sum_shares(t: float) -> tuple[float, float]:
    """What ``mp_sum`` multiplies its two terms by: 1-t and t, over their root sum of squares."""
    return (1 - t) / math.hypot(1 - t, t), t / math.hypot(1 - t, t)


# Eq. 103
def mp_cat(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """Join (N, Ca, ...) and (N, Cb, ...) along channels; ``b`` gets the share t of magnitude."""
    n_a, n_b = a.shape[1], b.shape[1]
    scale = math.sqrt((n_a + n_b) / ((1 - t) ** 2 + t**2))
    w_a, w_b = scale / math.sqrt(n_a) * (1 - t), scale / math.sqrt(n_b) * t
    parts = [x if math.isclose(w, 1) else x * w for x, w in ((a, w_a), (b, w_b))]
    return torch.cat(parts, dim=1)


def resample(x: Tensor, taps: Sequence[float] = (1, 1), mode: Resample = "keep") -> Tensor:
    """Halve, keep or double the sides of (N, C, H, W) with the separable filter ``taps``.

    ``taps`` is normalised to sum 1; outside the image is zero.
    """
    if mode == "keep":
        return x
    if tuple(taps) == (1, 1):  # box filter: the same result without a convolution
        return F.avg_pool2d(x, 2) if mode == "down" else F.interpolate(x, scale_factor=2.0)
    line = torch.tensor(taps, dtype=torch.float32)
    line = line / line.sum()
    kernel = torch.outer(line, line).to(x).expand(x.shape[1], 1, -1, -1)
    pad = (len(taps) - 1) // 2
    if mode == "down":
        return F.conv2d(x, kernel, stride=2, padding=pad, groups=x.shape[1])
    return F.conv_transpose2d(x, kernel * 4, stride=2, padding=pad, groups=x.shape[1])


class MPFourier(nn.Module):
    """Random Fourier features of a scalar: (N,) -> (N, num_channels), Eq. 75."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.zeros(num_channels))
        self.register_buffer("phases", torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        angle = torch.addcmul(self.phases.float(), x.float()[:, None], self.freqs.float())
        return (angle.cos() * math.sqrt(2)).to(x.dtype)


def _apply(x: Tensor, w: Tensor) -> Tensor:
    """Linear layer (N, in) or same-size convolution (N, in, H, W), by the weight's shape."""
    if w.ndim == 2:
        return F.linear(x, w)
    if w.shape[-1] == 1 and x.dtype in (torch.bfloat16, torch.float16):
        # A product over the channels, which lie last: on CPUs 3 times faster than a convolution.
        return F.linear(x.movedim(1, -1), w.flatten(1)).movedim(-1, 1)
    return F.conv2d(x, w, padding=w.shape[-1] // 2)


class MPConv(nn.Module):
    """Bias-free linear layer (``kernel=()``) or same-size convolution, unit-norm weights.

    ``forward(x, gain)``: x is (N, in) or (N, in, H, W); result has the type of x. ``factor``
    multiplies the result: constants of the operations before and after, at no cost here.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, ...] = (),
        factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.out_channels, self.factor = out_channels, factor
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, *kernel))

    # Eq. 47: w gain / (sqrt(fan_in) rms(w)), one factor per output row
    def effective_weight(self, gain: Gain = 1.0) -> Tensor:
        """The weight that is applied: normalised per output row, times gain / sqrt(fan_in)."""
        w = self.weight.float()
        return normalize(w) * (gain * (self.factor / math.sqrt(w[0].numel())))

    @torch.no_grad()
    def normalize_weight_(self) -> None:
        """Forced weight normalisation (Eq. 66): overwrite the weight by its normalised self."""
        self.weight.copy_(normalize(self.weight.float()))

    def forward(self, x: Tensor, gain: Gain = 1.0) -> Tensor:
        return _apply(x, self.effective_weight(gain).to(x.dtype))


class FixedConv(nn.Module):
    """What an ``MPConv`` with one gain applies, worked out once; not a parameter.

    dtype: of a convolution's weight; a linear layer, which sees embeddings, stays in float32.
    """

    weight: Tensor

    def __init__(self, layer: MPConv, gain: Gain, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_channels = layer.out_channels
        with torch.no_grad():
            w = layer.effective_weight(gain)
        if w.ndim == 4:
            w = w.to(dtype).contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", w)

    def forward(self, x: Tensor, gain: None = None) -> Tensor:
        """As ``MPConv.forward``; the gain is part of the weight."""
        return _apply(x, self.weight.to(x.dtype))
