"""Sampling from VAR, scale by scale, with classifier-free guidance and top-k / top-p filters.

Letters in shapes: N images, L tokens of all scales, S scales, l tokens of one scale, V codes.
Source: VAR paper, section 3, and the sampler released with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mclr.errors import UserError
from mclr.models.finite import note_rows
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae

# (probabilities (N, l, V), uniforms (N, l)) -> tokens (N, l)
Choose = Callable[[Tensor, Tensor], Tensor]


def inverse_cdf(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Smallest token whose cumulative probability exceeds u: (N, l, V), (N, l) -> (N, l) int64.

    Tokens of probability zero are never returned.
    """
    cdf = probabilities.double().cumsum(dim=-1)
    total = cdf[..., -1]
    below_total = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniforms.to(cdf) * total, below_total)
    tokens = torch.searchsorted(cdf, target.unsqueeze(-1), right=True).squeeze(-1)
    return tokens.clamp(max=probabilities.shape[-1] - 1)  # of NaN, too, a token


def filter_logits(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Logits (..., V) with removed codes at -inf: top-k first, then top-p on what is left.

    top_k 0 and top_p 0 keep everything. Ties with the k-th logit stay. Top-p removes, from the
    least likely code up, those whose cumulative probability is at most 1 - p; one always stays.
    """
    if top_k > 0:
        kth = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    if top_p > 0:
        ascending, order = logits.sort(dim=-1)
        remove = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        remove[..., -1] = False
        logits = logits.masked_fill(remove.scatter(-1, order, remove), -math.inf)
    return logits


# Guidance of scale si: logits = (1 + t) cond - t uncond, t = cfg * si / (S - 1)
def guided_logits(conditional: Tensor, unconditional: Tensor, cfg: float, ramp: float) -> Tensor:
    """Guided logits, same shape as both inputs; ramp = si / (S - 1) is in [0, 1]."""
    t = cfg * ramp
    return (1 + t) * conditional - t * unconditional


def guidance_ramp(patch_nums: Sequence[int]) -> Tensor:
    """The share of γ by which each token is guided: (L, 1), float64, from 0 to 1 by scale."""
    last = max(1, len(patch_nums) - 1)
    ramps = [
        torch.full((p * p,), si / last, dtype=torch.float64) for si, p in enumerate(patch_nums)
    ]
    return torch.cat(ramps)[:, None]


# VAR's "more_smooth": softmax(((1 + r) logits − ln E) / τ) with τ = max(0.27 (1 − 0.95 r), 0.005)
def smooth_weights(logits: Tensor, uniforms: Tensor, ramp: float) -> Tensor:
    """Shares of the codes at each position, nearly one-hot: three (N, l, V), ramp = si / (S - 1).

    A Gumbel-softmax: its largest share is a draw from softmax((1 + ramp) logits).
    """
    exponentials = -torch.log1p(-uniforms.double())
    temperature = max(0.27 * (1 - 0.95 * ramp), 0.005)
    scores = (1 + ramp) * logits - exponentials.log().to(logits)
    return (scores / temperature).softmax(dim=-1)


def check_sample(var: Var, vqvae: Vqvae, labels: Tensor, uniforms: Tensor) -> None:
    """Raise UserError unless the inputs of ``var_sample`` fit each other and the models."""
    _check(var, vqvae, labels, uniforms, (var.config.length,))


def _check(
    var: Var, vqvae: Vqvae, labels: Tensor, uniforms: Tensor, shape: tuple[int, ...]
) -> None:
    if vqvae.config.patch_nums != var.config.patch_nums:
        raise UserError(
            f"tokenizer has patch_nums {vqvae.config.patch_nums}, VAR has {var.config.patch_nums}: "
            "they must be equal"
        )
    if labels.ndim != 1 or uniforms.shape != (len(labels), *shape):
        wanted = ", ".join(["N", *map(str, shape)])
        raise UserError(
            f"VAR sampler got labels {tuple(labels.shape)} and uniforms {tuple(uniforms.shape)}: "
            f"expected (N,) and ({wanted}); draw them with seeded_uniforms(seeds, "
            f"{math.prod(shape)})"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= var.null_label:
        raise UserError(f"labels must be 0 to {var.null_label} ({var.null_label} = no class)")


def _check_settings(vocab: int, cfg: float, top_k: int, top_p: float) -> None:
    if cfg < 0 or not 0 <= top_k <= vocab or not 0 <= top_p <= 1:
        raise UserError(
            f"cfg={cfg}, top_k={top_k}, top_p={top_p}: expected cfg >= 0, top_k from 0 (off) to "
            f"{vocab}, top_p from 0 (off) to 1"
        )


def _generate(
    var: Var,
    vqvae: Vqvae,
    labels: Tensor,
    cfg: float,
    top_k: int,
    top_p: float,
    codes: Callable[[int, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Quantised latent (N, C, P, P), scale by scale; and whether all logits were finite, (N,).

    codes(si, logits) makes of the guided, filtered logits (N, l, V) of scale si the map
    (N, C, p, p) of what was chosen.
    """
    _check_settings(var.config.vocab_size, cfg, top_k, top_p)
    n, guided, last = len(labels), cfg > 0, len(var.spans) - 1
    rows = torch.cat([labels, torch.full_like(labels, var.null_label)]) if guided else labels
    side, channels = vqvae.config.patch_nums[-1], vqvae.config.z_channels
    fhat = torch.zeros(n, channels, side, side, device=labels.device)
    finite = torch.ones(n, dtype=torch.bool, device=labels.device)
    inputs: Tensor | None = None
    caches = var.new_caches()
    for si in range(last + 1):
        logits = var.scale_logits(si, rows, inputs, caches)
        if guided:
            logits = guided_logits(logits[:n], logits[n:], cfg, si / last)
        finite = finite & logits.isfinite().all(-1).all(-1)
        h = codes(si, filter_logits(logits, top_k, top_p))
        fhat, following = vqvae.next_input(si, fhat, h)
        inputs = following.flatten(2).transpose(1, 2).repeat(2 if guided else 1, 1, 1)
    return fhat, finite


@torch.no_grad()
def var_sample(
    var: Var,
    vqvae: Vqvae,
    labels: Tensor,
    uniforms: Tensor,
    *,
    cfg: float = 0.0,
    top_k: int = 0,
    top_p: float = 0.0,
    choose: Choose | None = None,
) -> Tensor:
    """Tokens (N, L) int64 of one image per label; Vqvae.decode_tokens turns them into images.

    labels (N,) int64 on the models' device; var.null_label samples without a class.
    uniforms (N, L), see seeded_uniforms: token i of image n is the inverse CDF at uniforms[n, i].
    cfg: guidance at the last scale, growing linearly from none at the first; 0 is guidance-free
    and evaluates N rows per scale, otherwise 2N. choose: replaces inverse_cdf.
    Raises UserError for shapes or settings that do not fit the model, and for logits that are not
    finite.
    """
    check_sample(var, vqvae, labels, uniforms)
    uniforms = uniforms.to(labels.device)
    tokens = draw_tokens(
        var, vqvae, labels, uniforms, cfg=cfg, top_k=top_k, top_p=top_p,
        choose=choose or inverse_cdf,
    )  # fmt: skip
    return finite_tokens(tokens)


def finite_tokens(tokens: Tensor) -> Tensor:
    """Tokens of ``draw_tokens``, with a note on rows that it could not draw (``note_rows``)."""
    note_rows(tokens[:, 0] >= 0)
    return tokens.clamp(min=0)


@torch.no_grad()
def draw_tokens(
    var: Var,
    vqvae: Vqvae,
    labels: Tensor,
    uniforms: Tensor,
    *,
    cfg: float,
    top_k: int,
    top_p: float,
    choose: Choose = inverse_cdf,
) -> Tensor:
    """``var_sample`` of inputs on one device, without the checks: nothing is read from a GPU.

    Rows of images whose logits are not finite are −1: ``finite_tokens`` says so.
    """
    grids: list[Tensor] = []

    def codes(si: int, logits: Tensor) -> Tensor:
        grids.append(choose(logits.softmax(dim=-1), uniforms[:, slice(*var.spans[si])]))
        return vqvae.quantize.embed(si, grids[-1])

    _, finite = _generate(var, vqvae, labels, cfg, top_k, top_p, codes)
    return torch.cat(grids, dim=1).masked_fill(~finite.unsqueeze(1), -1)


@torch.no_grad()
def var_sample_smooth(
    var: Var,
    vqvae: Vqvae,
    labels: Tensor,
    uniforms: Tensor,
    *,
    cfg: float = 0.0,
    top_k: int = 0,
    top_p: float = 0.0,
) -> Tensor:
    """Latent (N, C, P, P) of one image per label; Vqvae.decode turns it into images in [-1, 1].

    The released sampler's "more_smooth": pictures nicer to look at, not samples of the model, so
    not for metrics. Every position has a mixture of codes, see smooth_weights, instead of one.
    uniforms (N, L, V): seeded_uniforms(seeds, L * V) in that shape. Other arguments and errors as
    for var_sample.
    """
    _check(var, vqvae, labels, uniforms, (var.config.length, var.config.vocab_size))
    uniforms, last = uniforms.to(labels.device), len(var.spans) - 1

    def codes(si: int, logits: Tensor) -> Tensor:
        shares = smooth_weights(logits, uniforms[:, slice(*var.spans[si])], si / last)
        p = vqvae.config.patch_nums[si]
        mixed: Tensor = shares @ vqvae.quantize.embedding.weight
        return mixed.transpose(1, 2).reshape(len(mixed), -1, p, p)

    fhat, finite = _generate(var, vqvae, labels, cfg, top_k, top_p, codes)
    note_rows(finite)
    return fhat
