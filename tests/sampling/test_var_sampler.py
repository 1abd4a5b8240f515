"""VAR sampler: closed forms, then recorded runs of the released sampler."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mclr.errors import UserError
from mclr.models.seeded import seeded_uniforms
from mclr.models.var.config import VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.sampler import (
    Choose,
    filter_logits,
    guided_logits,
    inverse_cdf,
    smooth_weights,
    var_sample,
    var_sample_smooth,
)
from mclr.models.var.vqvae import Vqvae

GOLDEN = Path(__file__).parents[1] / "golden"
SCALES = (1, 2, 3, 4)
SMALL_VAE = VqvaeConfig(
    vocab_size=32, z_channels=8, ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, patch_nums=SCALES
)
SMALL_VAR = VarConfig(
    depth=2,
    embed_dim=48,
    num_heads=3,
    num_classes=5,
    patch_nums=SCALES,
    vocab_size=32,
    z_channels=8,
)


def golden(name: str) -> dict[str, Any]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        data: dict[str, Any] = {
            k: torch.from_numpy(v) for k, v in arrays.items() if v.dtype.kind in "fiub"
        }
        data["meta"] = json.loads(str(arrays["meta_json"]))
    return data


@pytest.fixture(scope="module")
def models() -> tuple[Var, Vqvae]:
    """The recorded tiny transformer and tokenizer."""
    vae = Vqvae(SMALL_VAE)
    halves = load_file(GOLDEN / "var_vae_small.safetensors")
    vae.load_state_dict({k: v.float() for k, v in halves.items()})
    var = Var(SMALL_VAR)
    var.load_state_dict(load_file(GOLDEN / "var_var.safetensors"))
    return var, vae


def multinomial(generator: torch.Generator) -> Choose:
    """The released sampler's draw: one torch.multinomial over [N * l, V] per scale."""

    def choose(probabilities: Tensor, uniforms: Tensor) -> Tensor:
        rows = probabilities.view(-1, probabilities.shape[-1])
        draws = torch.multinomial(rows, 1, replacement=True, generator=generator)
        return draws.view(uniforms.shape)

    return choose


# --- closed forms ------------------------------------------------------------------------------


def test_inverse_cdf_boundaries() -> None:
    p = torch.tensor([0.25, 0.0, 0.5, 0.25, 0.0])
    uniforms = [0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-53]
    tokens = inverse_cdf(p.expand(1, 6, 5), torch.tensor([uniforms], dtype=torch.float64))
    assert tokens.tolist() == [[0, 0, 2, 2, 3, 3]]


def test_inverse_cdf_never_returns_removed_tokens() -> None:
    logits = torch.randn(200, 4, 50, generator=torch.Generator().manual_seed(0)) * 5
    filtered = filter_logits(logits, 3, 0.0)
    for u in (0.0, 0.5, 1 - 2**-53):
        tokens = inverse_cdf(filtered.softmax(-1), torch.full((200, 4), u, dtype=torch.float64))
        assert torch.isfinite(filtered.gather(-1, tokens.unsqueeze(-1))).all()


def test_inverse_cdf_frequencies() -> None:
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])
    uniforms = seeded_uniforms(range(4000), 5)
    counts = inverse_cdf(p.expand(4000, 5, 4), uniforms).flatten().bincount(minlength=4)
    assert (counts / 20_000 - p).abs().max() < 0.01


def test_seeded_uniforms_rows_are_their_seed() -> None:
    both = seeded_uniforms([3, 8], 30)
    assert both.shape == (2, 30) and both.dtype == torch.float64
    assert both.min() >= 0 and both.max() < 1
    assert torch.equal(both[1:], seeded_uniforms([8], 30))
    assert not torch.equal(both[0], both[1])
    assert seeded_uniforms([], 30).shape == (0, 30)


def test_top_k_keeps_ties() -> None:
    kept = filter_logits(torch.tensor([3.0, 1.0, 2.0, 2.0, 0.0]), 2, 0.0).isfinite()
    assert kept.tolist() == [True, False, True, True, False]


def test_top_p_after_top_k() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    kept = filter_logits(logits, 0, 0.75).isfinite().tolist()
    assert kept == [True, True, True, False]
    # After top-k 2 the first token has 4/7 of the mass, so p = 0.5 needs no second one.
    assert filter_logits(logits, 2, 0.5).isfinite().tolist() == [True, False, False, False]
    assert filter_logits(logits, 0, 1e-9).isfinite().sum() == 1
    assert torch.equal(filter_logits(logits, 0, 0.0), logits)


def test_guidance_formula() -> None:
    cond, uncond = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0])
    assert torch.equal(guided_logits(cond, uncond, 1.5, 0.0), cond)
    expected = cond + 0.75 * (cond - uncond)
    torch.testing.assert_close(guided_logits(cond, uncond, 1.5, 0.5), expected)


def test_image_depends_on_its_seed_only(models: tuple[Var, Vqvae]) -> None:
    var, vae = models
    labels = torch.tensor([0, 4, 2, 2])
    uniforms = seeded_uniforms([11, 12, 13, 14], 30)
    batch = var_sample(var, vae, labels, uniforms, cfg=1.5)
    order = [2, 0, 3, 1]
    shuffled = var_sample(var, vae, labels[order], uniforms[order], cfg=1.5)
    assert torch.equal(shuffled, batch[order])
    for i in range(4):
        alone = var_sample(var, vae, labels[i : i + 1], uniforms[i : i + 1], cfg=1.5)
        assert torch.equal(alone[0], batch[i])
    assert not torch.equal(batch[2], batch[3])


def test_frequencies_follow_the_likelihood() -> None:
    """Sampled sequences of a two-token model occur as often as log_likelihood says."""
    draws = torch.Generator().manual_seed(0)
    vae = Vqvae.build(
        VqvaeConfig(vocab_size=3, z_channels=4, ch=8, ch_mult=(1,), patch_nums=(1, 1)), draws
    )
    var = Var.build(
        VarConfig(
            depth=1, embed_dim=16, num_classes=2, patch_nums=(1, 1), vocab_size=3, z_channels=4
        ),
        draws,
    )
    with torch.no_grad():
        vae.quantize.embedding.weight.normal_(generator=draws)
        for p in var.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=draws))
    n = 6000
    sampled = var_sample(var, vae, torch.ones(n, dtype=torch.int64), seeded_uniforms(range(n), 2))
    frequency = (sampled[:, 0] * 3 + sampled[:, 1]).bincount(minlength=9) / n
    tokens = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    with torch.no_grad():
        labels = torch.ones(9, dtype=torch.int64)
        expected = var.log_likelihood(labels, tokens, vae.tokens_to_input(tokens)).exp()
    assert float(expected.max() - expected.min()) > 0.05
    assert (frequency - expected).abs().max() < 4 * math.sqrt(0.25 / n)


@pytest.mark.parametrize("shared", [False, True])
def test_cached_generation_agrees_with_teacher_forcing(
    models: tuple[Var, Vqvae], shared: bool
) -> None:
    _, vae = models
    config = models[0].config.model_copy(update={"shared_aln": shared, "attn_l2_norm": not shared})
    draws = torch.Generator().manual_seed(1)
    var = Var.build(config, draws)
    with torch.no_grad():
        for p in var.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=draws))
    labels, seen = torch.tensor([1, 5]), []

    def record(probabilities: Tensor, uniforms: Tensor) -> Tensor:
        seen.append(probabilities)
        return inverse_cdf(probabilities, uniforms)

    tokens = var_sample(var, vae, labels, seeded_uniforms([1, 2], 30), choose=record)
    with torch.no_grad():
        forced = var(labels, vae.tokens_to_input(tokens)).softmax(-1)
    torch.testing.assert_close(torch.cat(seen, dim=1), forced, atol=1e-5, rtol=0)


def test_guidance_free_evaluates_one_row_per_image(
    models: tuple[Var, Vqvae], monkeypatch: pytest.MonkeyPatch
) -> None:
    var, vae = models
    rows: list[int] = []
    original = var.scale_logits

    def counting(si: int, labels: Tensor, *rest: Any) -> Tensor:
        rows.append(len(labels))
        return original(si, labels, *rest)

    monkeypatch.setattr(var, "scale_logits", counting)
    labels, uniforms = torch.tensor([0, 1, 2]), seeded_uniforms([1, 2, 3], 30)
    var_sample(var, vae, labels, uniforms)
    assert rows == [3] * 4
    rows.clear()
    var_sample(var, vae, labels, uniforms, cfg=1.0)
    assert rows == [6] * 4 and sum(rows) == 3 * 2 * len(SCALES)


def test_bad_arguments_say_what_is_expected(models: tuple[Var, Vqvae]) -> None:
    var, vae = models
    labels, uniforms = torch.tensor([0]), seeded_uniforms([1], 30)
    with pytest.raises(UserError, match=r"expected \(N,\) and \(N, 30\)"):
        var_sample(var, vae, labels, uniforms[:, :29])
    with pytest.raises(UserError, match="labels must be 0 to 5"):
        var_sample(var, vae, labels + 6, uniforms)
    for bad in ({"cfg": -1.0}, {"top_k": 33}, {"top_p": 1.5}):
        with pytest.raises(UserError, match="top_k from 0"):
            var_sample(var, vae, labels, uniforms, **bad)
    other = Vqvae(vae.config.model_copy(update={"patch_nums": (1, 2, 4)}))
    with pytest.raises(UserError, match="must be equal"):
        var_sample(var, other, labels, uniforms)


def test_smooth_weights_are_a_gumbel_softmax() -> None:
    """Their largest share is a draw from the sharpened softmax; the shares sharpen with scale."""
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(4000, 5, 4)
    uniforms = seeded_uniforms(range(4000), 20).view(4000, 5, 4)
    for ramp in (0.0, 1.0):
        weights = smooth_weights(logits, uniforms, ramp)
        torch.testing.assert_close(weights.sum(-1), torch.ones(4000, 5))
        frequency = weights.argmax(-1).flatten().bincount(minlength=4) / 20_000
        expected = ((1 + ramp) * logits[0, 0]).softmax(-1)
        assert (frequency - expected).abs().max() < 0.015
    coarse, fine = (smooth_weights(logits, uniforms, ramp).amax(-1).mean() for ramp in (0.0, 1.0))
    assert 0.8 < coarse < fine and fine > 0.99
    removed = logits.masked_fill(torch.tensor([True, False, False, False]), -math.inf)
    assert not smooth_weights(removed, uniforms, 0.5)[..., 0].any()


def test_smooth_image_depends_on_its_seed_only(models: tuple[Var, Vqvae]) -> None:
    var, vae = models
    labels = torch.tensor([0, 4, 5])
    uniforms = seeded_uniforms([11, 12, 13], 30 * 32).view(3, 30, 32)
    batch = var_sample_smooth(var, vae, labels, uniforms, cfg=1.5, top_k=9)
    assert batch.shape == (3, 8, 4, 4)
    alone = var_sample_smooth(var, vae, labels[1:2], uniforms[1:2], cfg=1.5, top_k=9)
    # The last temperature, 0.0135, makes rounding 75 times larger.
    torch.testing.assert_close(alone[0], batch[1], atol=1e-4, rtol=0)
    with pytest.raises(UserError, match=r"\(N,\) and \(N, 30, 32\).*seeds, 960"):
        var_sample_smooth(var, vae, labels, uniforms[..., :31])
    with pytest.raises(UserError, match="top_k from 0"):
        var_sample_smooth(var, vae, labels, uniforms, top_k=33)


# --- recorded runs -----------------------------------------------------------------------------


def test_recorded_filters() -> None:
    data = golden("var_autoregressive")
    for k, p in [(0, 0.0), (3, 0.0), (0, 0.9), (0, 0.5), (5, 0.8), (1, 0.0), (12, 0.99)]:
        filtered = filter_logits(data["filter_logits"], k, p)
        assert torch.equal(filtered.isfinite(), data[f"filter_k{k}_p{p}_kept"]), (k, p)
        draws = torch.Generator().manual_seed(data["meta"]["filter_seed"])
        drawn = multinomial(draws)(filtered.softmax(-1), torch.empty(2, 4))
        assert torch.equal(drawn[..., None], data[f"filter_k{k}_p{p}_sample"]), (k, p)


def test_recorded_gumbel_softmax() -> None:
    """Recorded at logits and temperature 0.3: of ours at ramp r with logits / (1 + r)."""
    data = golden("var_autoregressive")
    uniforms = -torch.expm1(-data["gumbel_exponential_draws"].double())
    # 0.3 is warmer than any scale's temperature, so one outside of [0, 1] is asked for.
    ramp = (1 - 0.3 / 0.27) / 0.95
    weights = smooth_weights(data["filter_logits"] / (1 + ramp), uniforms, ramp)
    torch.testing.assert_close(weights, data["gumbel_out"], atol=1e-5, rtol=0)


def test_recorded_smooth_run(models: tuple[Var, Vqvae], monkeypatch: pytest.MonkeyPatch) -> None:
    var, vae = models
    data = golden("var_autoregressive")
    (setting,) = [s for s in data["meta"]["rng"] if s["tag"] == "smooth"]
    draws = torch.Generator().manual_seed(setting["g_seed"])
    exponentials = []
    for begin, end in var.spans:  # the released sampler draws tokens first, and ignores them
        torch.multinomial(torch.ones(3 * (end - begin), 32), 1, generator=draws)
        exponentials.append(torch.empty(3, end - begin, 32).exponential_(generator=draws))
    uniforms = -torch.expm1(-torch.cat(exponentials, dim=1).double())
    seen: list[Tensor] = []
    original = var.scale_logits

    def recording(*args: Any) -> Tensor:
        seen.append(original(*args))
        return seen[-1]

    monkeypatch.setattr(var, "scale_logits", recording)
    keys = ("cfg", "top_k", "top_p")
    fhat = var_sample_smooth(
        var, vae, data["labels"], uniforms, **{key: setting[key] for key in keys}
    )
    torch.testing.assert_close(torch.cat(seen, 1), data["smooth_logits_2B"], atol=1e-4, rtol=0)
    torch.testing.assert_close(fhat, data["smooth_fhat"], atol=1e-4, rtol=0)
    with torch.no_grad():
        images = (vae.decode(fhat).clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(images, data["smooth_img"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("case", "label"), [("intlabel2", 2), ("intlabelneg", 5)])
def test_recorded_single_labels(models: tuple[Var, Vqvae], case: str, label: int) -> None:
    """One class for the whole batch; a negative one means none. Recorded with cfg 1.5, top-k 1."""
    var, vae = models
    data = golden("var_autoregressive")
    expected = data[f"{case}_tokens"]
    uniforms = torch.full(expected.shape, 0.5)
    labels = torch.full((len(expected),), label)
    tokens = var_sample(var, vae, labels, uniforms, cfg=1.5, top_k=1)
    assert torch.equal(tokens, expected)
    images = (vae.decode_tokens(tokens) + 1) / 2
    torch.testing.assert_close(images, data[f"{case}_img"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_recorded_evaluation(models: tuple[Var, Vqvae]) -> None:
    """The released trainer's validation: cross-entropy and accuracy, all tokens and last scale."""
    var, vae = models
    data = golden("var_forward")
    tokens = data["tokens"]
    logits = var(data["labels"], vae.tokens_to_input(tokens))
    surprise = -logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    hits = (logits.argmax(-1) == tokens).double() * 100
    found = [surprise.mean(), surprise[:, -16:].mean(), hits.mean(), hits[:, -16:].mean()]
    torch.testing.assert_close(torch.stack(found).double(), data["eval_ep"], atol=1e-5, rtol=0)
    following = vae.tokens_to_input(data["tokens2"])
    torch.testing.assert_close(following, data["var_input2"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_recorded_ways_from_tokens_to_images(models: tuple[Var, Vqvae]) -> None:
    """Latents and images of every scale, by each of the released tokenizer's helpers."""
    _, vae = models
    data = golden("var_vae_small")
    fhats = vae.quantize.fhats(data["tokens"])
    torch.testing.assert_close(torch.stack(fhats), data["embed_to_fhat_all"], atol=1e-4, rtol=0)
    images = torch.stack([vae.decode(fhat).clamp(-1, 1) for fhat in fhats])
    for name in ("recon_all", "idx_to_img_all"):
        torch.testing.assert_close(images, data[name], atol=1e-4, rtol=0)
    for name in ("idx_to_img_last", "fhat_to_img"):
        torch.testing.assert_close(images[-1], data[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", ["greedy_cfg0", "greedy_cfg1.5", "greedy_cfg4"])
def test_recorded_greedy_runs(models: tuple[Var, Vqvae], case: str) -> None:
    data = golden("var_autoregressive")
    (setting,) = [s for s in data["meta"]["greedy"] if s["tag"] == case]
    check_run(models, data, case, cfg=setting["cfg"], top_k=1)


@pytest.mark.parametrize("case", ["full_seed5", "topk9_topp0.9"])
def test_recorded_random_runs(models: tuple[Var, Vqvae], case: str) -> None:
    data = golden("var_autoregressive")
    (setting,) = [s for s in data["meta"]["rng"] if s["tag"] == case]
    draws = torch.Generator().manual_seed(setting["g_seed"])
    keys = ("cfg", "top_k", "top_p")
    check_run(models, data, case, choose=multinomial(draws), **{k: setting[k] for k in keys})


def check_run(models: tuple[Var, Vqvae], data: dict[str, Any], case: str, **settings: Any) -> None:
    """Tokens exactly, and reconstruction, image and raw logits within float32 noise."""
    var, vae = models
    labels = data["labels"]
    tokens = var_sample(var, vae, labels, torch.full((3, 30), 0.5).double(), **settings)
    assert torch.equal(tokens, data[f"{case}_tokens"])
    fhat = vae.quantize.fhats(tokens)[-1]
    torch.testing.assert_close(fhat, data[f"{case}_fhat"], atol=1e-4, rtol=0)
    images = (vae.decode_tokens(tokens) + 1) / 2
    torch.testing.assert_close(images, data[f"{case}_img"], atol=1e-4, rtol=0)
    with torch.no_grad():
        inputs = vae.tokens_to_input(tokens).repeat(2, 1, 1)
        logits = var(torch.cat([labels, torch.full_like(labels, var.null_label)]), inputs)
    torch.testing.assert_close(logits, data[f"{case}_logits_2B"], atol=1e-4, rtol=0)
