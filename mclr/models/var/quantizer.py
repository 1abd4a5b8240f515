"""Multi-scale residual quantisation of VAR: a latent map becomes one token grid per scale.

Letters in shapes: N images, S scales, L tokens of all scales, V codes, C latent channels,
P side of the latent map (= patch_nums[-1]), p side of one scale's grid.
Source: VAR paper, Algorithms 1 and 2, and its released tokenizer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mclr.errors import UserError
from mclr.models.var.config import VqvaeConfig, scale_spans


class QuantizerOutput(NamedTuple):
    """Training pass of the quantizer."""

    fhat: Tensor  # (N, C, P, P) quantised latent, gradient passed straight through to f
    vq_loss: Tensor  # scalar, codebook + beta * commitment, mean over scales
    hits: Tensor  # (S, V) int64, how often each code was chosen at each scale


def uninitialised_embedding(rows: int, width: int) -> nn.Embedding:
    """An embedding whose weights are filled later, by ``build`` or a state dict.

    The usual constructor draws them from the global generator, and on the meta device imports
    torch's compiler to do so, a second of every job.
    """
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


class Phi(nn.Conv2d):
    """Residual smoothing after upsampling: phi(h) = (1 - r) h + r conv3x3(h)."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__(channels, channels, kernel_size=3, padding=1)
        self.ratio = ratio

    def forward(self, h: Tensor) -> Tensor:
        return (1 - self.ratio) * h + self.ratio * super().forward(h)


def phi_ticks(count: int) -> np.ndarray:
    """Positions in [0, 1] of `count` shared phis; the released models place four more widely."""
    margin = 1 / (3 * count) if count == 4 else 1 / (2 * count)
    return np.linspace(margin, 1 - margin, count)


def phi_index(si: int, scales: int, count: int) -> int:
    """Which of `count` phis serves scale si: the one nearest to si / (S - 1)."""
    return int(np.argmin(np.abs(phi_ticks(count) - si / (scales - 1))))


def enlarge(h: Tensor, side: int) -> Tensor:
    """Bicubic (N, C, p, p) -> (N, C, side, side)."""
    if h.device.type == "cpu" or not h.requires_grad:
        return F.interpolate(h, size=(side, side), mode="bicubic")
    return enlarge_by_products(h, side)


def enlarge_by_products(h: Tensor, side: int) -> Tensor:
    """``enlarge`` as M h M^T: on GPUs torch's own gradient is not the same from run to run."""
    unit = torch.eye(h.shape[-1], device=h.device, dtype=h.dtype)
    m = F.interpolate(unit[:, None, :, None], size=(side, 1), mode="bicubic")[:, 0, :, 0].T
    return m @ h @ m.T


class PhiBank(nn.Module):
    """The phis and their assignment to scales."""

    def __init__(self, channels: int, ratio: float, count: int, scales: int) -> None:
        super().__init__()
        self.qresi_ls = nn.ModuleList(Phi(channels, ratio) for _ in range(count))
        self.choice = [phi_index(si, scales, count) for si in range(scales)]

    def forward(self, si: int, h: Tensor) -> Tensor:
        out: Tensor = self.qresi_ls[self.choice[si]](h)
        return out


class Quantizer(nn.Module):
    """Codebook shared by all scales, and the maps between latents, tokens and VAR inputs."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        self.patch_nums = config.patch_nums
        self.spans = scale_spans(config.patch_nums)
        self.beta, self.by_angle = config.beta, config.using_znorm
        self.embedding = uninitialised_embedding(config.vocab_size, config.z_channels)
        scales = len(config.patch_nums)
        self.quant_resi = PhiBank(
            config.z_channels, config.quant_resi, config.share_quant_resi, scales
        )
        # Part of every released checkpoint. A training pass returns its counts instead.
        self.register_buffer("ema_vocab_hit_SV", torch.zeros(scales, config.vocab_size))

    def _down(self, si: int, f: Tensor) -> Tensor:
        """Area average of (N, C, P, P) to the grid of scale si; the last scale is the map."""
        if si == len(self.patch_nums) - 1:
            return f
        return F.interpolate(f, size=(self.patch_nums[si],) * 2, mode="area")

    def _lift(self, si: int, h: Tensor) -> Tensor:
        """Bicubic (N, C, p, p) -> (N, C, P, P) below the last scale, then that scale's phi."""
        # Rounding to half precision here would change tokens, so autocast stops at the quantizer.
        with torch.autocast(h.device.type, enabled=False):
            if si < len(self.patch_nums) - 1:
                h = enlarge(h, self.patch_nums[-1])
            out: Tensor = self.quant_resi(si, h)
        return out

    def embed(self, si: int, tokens: Tensor) -> Tensor:
        """Codes of one scale as a map: (N, p * p) int64 -> (N, C, p, p)."""
        p = self.patch_nums[si]
        codes: Tensor = self.embedding(tokens)
        return codes.transpose(1, 2).reshape(len(tokens), -1, p, p)

    def nearest(self, f: Tensor) -> Tensor:
        """Index of the Euclidean-nearest code at each position: (N, C, p, p) -> (N, p * p).

        With ``using_znorm``, of the code with the smallest angle to it.
        """
        z = f.permute(0, 2, 3, 1).reshape(-1, f.shape[1])
        codes = self.embedding.weight
        if self.by_angle:
            with torch.autocast(z.device.type, enabled=False):
                likeness = F.normalize(z, dim=1) @ F.normalize(codes, dim=1).T
            return likeness.argmax(dim=1).view(len(f), -1)
        with torch.autocast(z.device.type, enabled=False):
            norms = z.square().sum(1, keepdim=True) + codes.square().sum(1)
            distance = torch.addmm(norms, z, codes.T, alpha=-2)
        return distance.argmin(dim=1).view(len(f), -1)

    def _check_latent(self, f: Tensor) -> None:
        side, channels = self.patch_nums[-1], self.embedding.embedding_dim
        if f.shape[1:] != (channels, side, side):
            raise UserError(
                f"VQ-VAE latent has shape {tuple(f.shape[1:])}: expected ({channels}, {side}, "
                f"{side}); make image side / 2^(len(ch_mult) - 1) equal to patch_nums[-1] = {side}"
            )

    def split(self, tokens: Tensor) -> list[Tensor]:
        """(N, L) -> S tensors (N, p * p); UserError if L is not that of patch_nums."""
        if tokens.ndim != 2 or tokens.shape[1] != self.spans[-1][1]:
            raise UserError(
                f"tokens have shape {tuple(tokens.shape)}: expected (N, {self.spans[-1][1]}) for "
                f"patch_nums {self.patch_nums}; tokenize with the same configuration"
            )
        return [tokens[:, begin:end] for begin, end in self.spans]

    @torch.no_grad()
    def encode(self, f: Tensor) -> Tensor:
        """Greedy residual quantisation (VAR Algorithm 1): (N, C, P, P) -> (N, L) int64."""
        self._check_latent(f)
        rest, grids = f.to(self.embedding.weight), []
        for si in range(len(self.patch_nums)):
            grids.append(self.nearest(self._down(si, rest)))
            rest = rest - self._lift(si, self.embed(si, grids[-1]))
        return torch.cat(grids, dim=1)

    @torch.no_grad()
    def fhats(self, tokens: Tensor) -> list[Tensor]:
        """Partial reconstructions after each scale (VAR Algorithm 2): S times (N, C, P, P)."""
        sums: list[Tensor] = []
        for si, grid in enumerate(self.split(tokens)):
            h = self._lift(si, self.embed(si, grid))
            sums.append(sums[-1] + h if sums else h)
        return sums

    @torch.no_grad()
    def tokens_to_input(self, tokens: Tensor) -> Tensor:
        """Teacher-forcing input of scales 1..S-1: (N, L) -> (N, L - first_l, C).

        Scale si + 1 is predicted from the reconstruction of scales 0..si at its own grid size.
        """
        scales = len(self.patch_nums)
        maps = [
            F.interpolate(fhat, size=(self.patch_nums[si + 1],) * 2, mode="area")
            for si, fhat in enumerate(self.fhats(tokens)[: scales - 1])
        ]
        return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)

    def next_input(self, si: int, fhat: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Add scale si to the reconstruction while generating.

        fhat (N, C, P, P): sum of the scales before si; h (N, C, p, p): codes of scale si.
        Returns the new fhat and the map that predicts scale si + 1, (N, C, p', p'); after the
        last scale that map is fhat itself.
        """
        fhat = fhat + self._lift(si, h)
        if si == len(self.patch_nums) - 1:
            return fhat, fhat
        return fhat, F.interpolate(fhat, size=(self.patch_nums[si + 1],) * 2, mode="area")

    # Codebook and commitment loss of VQ-VAE, summed like the reconstruction over scales:
    # 1/S sum_si [ beta |sg(fhat_si) - f|^2 + |fhat_si - sg(f)|^2 ]
    def forward(self, f: Tensor) -> QuantizerOutput:
        """Quantise f (N, C, P, P) for training; see QuantizerOutput."""
        self._check_latent(f)
        f = f.to(self.embedding.weight)
        fixed = f.detach()
        rest, fhat, loss, hits = fixed, torch.zeros_like(fixed), f.new_zeros(()), []
        for si in range(len(self.patch_nums)):
            tokens = self.nearest(self._down(si, rest).detach())
            h = self._lift(si, self.embed(si, tokens))
            fhat, rest = fhat + h, rest - h.detach()
            loss = loss + self.beta * F.mse_loss(f, fhat.detach()) + F.mse_loss(fhat, fixed)
            hits.append(tokens.flatten().bincount(minlength=self.embedding.num_embeddings))
        straight = fhat.detach() - fixed + f
        return QuantizerOutput(straight, loss / len(self.patch_nums), torch.stack(hits))
