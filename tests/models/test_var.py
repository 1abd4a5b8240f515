"""VAR tokenizer and transformer: closed forms, then vectors recorded from the released code."""

from __future__ import annotations

import itertools
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from mclr.errors import UserError
from mclr.likelihood.masks import Masks
from mclr.models.var.config import (
    VAR_PRESETS,
    VarArchitecture,
    VarConfig,
    VqvaeArchitecture,
    VqvaeConfig,
    scale_spans,
    var_preset,
)
from mclr.models.var.network import Attention, Block, Var
from mclr.models.var.quantizer import enlarge, enlarge_by_products, phi_index, phi_ticks
from mclr.models.var.vqvae import Vqvae

GOLDEN = Path(__file__).parents[1] / "golden"
SCALES = (1, 2, 3, 4)
SMALL_VAE = VqvaeConfig(
    vocab_size=32, z_channels=8, ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, patch_nums=SCALES
)
TINY_VAE = VqvaeConfig(
    vocab_size=16, z_channels=4, ch=16, ch_mult=(1, 1), num_res_blocks=1, img_channels=1,
    patch_nums=SCALES,
)  # fmt: skip
SMALL_VAR = VarConfig(
    depth=2, embed_dim=48, num_heads=3, num_classes=5, patch_nums=SCALES, vocab_size=32,
    z_channels=8,
)  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def golden(name: str) -> dict[str, Any]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        data: dict[str, Any] = {
            key: torch.from_numpy(value) if value.dtype.kind in "fiub" else value
            for key, value in arrays.items()
        }
    data["meta"] = json.loads(str(data["meta_json"]))
    return data


def weights(name: str) -> dict[str, Tensor]:
    """Recorded state dict; stored halves are exact in float32."""
    state = load_file(GOLDEN / f"{name}.safetensors")
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def close(actual: Tensor, expected: Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected.to(actual), atol=atol, rtol=0)


@pytest.fixture(scope="module")
def small_vae() -> Vqvae:
    model = Vqvae(SMALL_VAE)
    model.load_state_dict(weights("var_vae_small"))
    return model


@pytest.fixture(scope="module")
def small_var() -> Var:
    model = Var(SMALL_VAR)
    model.load_state_dict(weights("var_var"))
    return model


# --- configuration -----------------------------------------------------------------------------


def test_defaults_follow_depth() -> None:
    config = VarConfig(depth=24)
    assert (config.width, config.heads, config.length) == (1536, 24, 680)
    assert var_preset("var-d24").drop_path_rate == pytest.approx(0.1)
    assert var_preset("var-d36").shared_aln and var_preset("var-d36").patch_nums[-1] == 32


def test_unknown_preset_lists_valid_names() -> None:
    with pytest.raises(UserError, match=r"var-d99.*var-d16.*var-d36"):
        var_preset("var-d99")


@pytest.mark.parametrize(
    "bad",
    [
        {"patch_nums": (4,)},
        {"patch_nums": (2, 1)},
        {"patch_nums": (0, 1)},
        {"ch": 48},
        {"colour": 1},
        {"quant_resi": 0.0},
    ],
)
def test_invalid_tokenizer_config(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VqvaeConfig(**bad)


def test_architectures_leave_out_what_data_decide() -> None:
    codes = VqvaeConfig(**VqvaeArchitecture(ch=16).model_dump(), img_channels=1)
    assert (codes.ch, codes.img_channels) == (16, 1)
    with pytest.raises(ValidationError, match="img_channels"):
        VqvaeArchitecture.model_validate({"img_channels": 1})
    config = VarConfig(**VarArchitecture(depth=3).model_dump(), num_classes=10)
    assert (config.width, config.num_classes) == (192, 10)


def test_invalid_transformer_config() -> None:
    with pytest.raises(ValidationError, match="multiple of num_heads"):
        VarConfig(depth=2, embed_dim=50, num_heads=4)


def test_scale_spans_tile_the_sequence() -> None:
    assert scale_spans(SCALES) == [(0, 1), (1, 5), (5, 14), (14, 30)]


@pytest.mark.parametrize(
    ("name", "parameters", "keys"),
    [
        ("var-d16", 310_283_520, 220),
        ("var-d20", 600_917_136, 272),
        ("var-d24", 1_033_399_360, 324),
        ("var-d30", 2_010_020_356, 402),
        ("var-d36", 2_353_893_904, None),
    ],
)
def test_preset_sizes_on_meta_device(name: str, parameters: int, keys: int | None) -> None:
    with torch.device("meta"):
        model = Var(VAR_PRESETS[name])
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert keys is None or len(model.state_dict()) == keys


def test_published_tokenizer_size() -> None:
    with torch.device("meta"):
        model = Vqvae(VqvaeConfig())
    assert sum(p.numel() for p in model.parameters()) == 108_948_355
    assert len(model.state_dict()) == 324


# --- tokenizer ---------------------------------------------------------------------------------


def test_phi_choice() -> None:
    data = golden("var_vae_small")
    for count in (1, 2, 3, 4, 5, 10):
        np.testing.assert_allclose(phi_ticks(count), data[f"ticks_partially_{count}"], rtol=1e-12)
    assert [phi_index(si, 4, 4) for si in range(4)] == data["phi_choice"].tolist()
    ten = data["phi_choice_10scales_4phi"].tolist()
    assert [phi_index(si, 10, 4) for si in range(10)] == ten


def test_tokenizer_keys_equal_released(small_vae: Vqvae) -> None:
    expected = {k: v.shape for k, v in weights("var_vae_small").items()}
    assert {k: v.shape for k, v in small_vae.state_dict().items()} == expected


def test_encode_matches_recorded(small_vae: Vqvae) -> None:
    data = golden("var_vae_small")
    with torch.no_grad():
        close(small_vae.encode(data["img"]), data["f"])
    assert torch.equal(small_vae.encode_tokens(data["img"]), data["tokens"])
    assert torch.equal(small_vae.quantize.encode(data["f"]), data["tokens"])


def test_decode_matches_recorded(small_vae: Vqvae) -> None:
    data = golden("var_vae_small")
    fhats = small_vae.quantize.fhats(data["tokens"])
    close(torch.stack(fhats), data["fhat_all"])
    close(fhats[-1], data["fhat_last"])
    images = small_vae.decode_tokens(data["tokens"])
    close(images, data["recon_last"])
    assert images.abs().max() <= 1
    with torch.no_grad():
        close(small_vae.decode(fhats[1]).clamp(-1, 1), data["recon_all"][1])


def test_decoded_images_are_clamped(small_vae: Vqvae) -> None:
    loud = Vqvae(SMALL_VAE)
    loud.load_state_dict(small_vae.state_dict())
    loud.decoder.conv_out.weight.data *= 100
    assert loud.decode_tokens(golden("var_vae_small")["tokens"]).abs().max() == 1


def test_teacher_forcing_input_matches_recorded(small_vae: Vqvae) -> None:
    data = golden("var_vae_small")
    close(small_vae.tokens_to_input(data["tokens"]), data["var_input"])


def test_next_input_matches_recorded(small_vae: Vqvae) -> None:
    data = golden("var_vae_small")
    fhat = torch.zeros_like(data["f"])
    for si, grid in enumerate(small_vae.quantize.split(data["tokens"])):
        with torch.no_grad():
            h = small_vae.quantize.embed(si, grid)
            fhat, following = small_vae.next_input(si, fhat, h)
        close(following, data[f"next_input_{si}"])
    close(fhat, data["next_fhat"])


def test_training_pass_matches_recorded(small_vae: Vqvae) -> None:
    data = golden("var_vae_small")
    f = data["f"].clone().requires_grad_()
    out = small_vae.quantize(f)
    close(out.fhat, data["vqtrain_fhat"])
    total = out.vq_loss + (out.fhat * data["vqtrain_R"]).mean()
    close(out.vq_loss.detach(), data["vqtrain_loss"], 1e-6)
    codebook = small_vae.quantize.embedding.weight
    phi0 = small_vae.get_parameter("quantize.quant_resi.qresi_ls.0.weight")
    grads = torch.autograd.grad(total, [f, codebook, phi0])
    for grad, name in zip(grads, ("f", "codebook", "phi0"), strict=True):
        expected = data[f"vqtrain_grad_{name}"]
        close(grad, expected, atol=1e-4 * float(expected.abs().max()))
    counts = [
        grid.flatten().bincount(minlength=32) for grid in small_vae.quantize.split(data["tokens"])
    ]
    assert torch.equal(out.hits, torch.stack(counts))


def test_published_depth_matches_recorded() -> None:
    data = golden("var_vae_fullconfig")
    config = VqvaeConfig(vocab_size=48, z_channels=8, ch=32, patch_nums=SCALES)
    model = Vqvae(config)
    keys = data["keys"].tolist()
    shapes = {k: ",".join(map(str, v.shape)) for k, v in model.state_dict().items()}
    assert shapes == dict(zip(keys, data["shapes"].tolist(), strict=True))
    state = {
        k: recipe(k, v.shape, data["meta"]["recipe_seed"]) for k, v in model.state_dict().items()
    }
    sums = [float(state[k].double().abs().sum()) for k in keys]
    np.testing.assert_allclose(sums, data["sum_abs"], rtol=1e-6)
    model.load_state_dict(state)
    images = data["img_u8"].float() / 127.5 - 1
    with torch.no_grad():
        f = model.encode(images)
        close(f, data["f"])
        assert torch.equal(model.encode_tokens(images), data["tokens"])
        close(model.tokens_to_input(data["tokens"]), data["var_input"])
        fhat = model.quantize.fhats(data["tokens"])[-1]
        close(fhat, data["fhat_last"])
        expected = data["decoder_out_unclamped"]
        close(model.decode(fhat), expected, atol=1e-4 * max(1.0, float(expected.abs().max())))


def recipe(key: str, shape: torch.Size, seed: int) -> Tensor:
    """Weights of var_vae_fullconfig, as its README defines them."""
    z = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32).standard_normal(shape)
    if key == "quantize.ema_vocab_hit_SV":
        z = z * 0
    elif key == "quantize.embedding.weight":
        z = 0.6 * z
    elif z.ndim >= 2:
        z = z / np.sqrt(np.prod(shape[1:]))
    else:
        z = 1 + 0.1 * z if key.endswith("weight") else 0.05 * z
    return torch.from_numpy(z.astype(np.float32))


def test_grey_8x8_images_round_trip_shapes() -> None:
    model = Vqvae.build(TINY_VAE, generator())
    images = torch.rand(2, 1, 8, 8, generator=generator(1)) * 2 - 1
    tokens = model.encode_tokens(images)
    assert tokens.shape == (2, 30) and tokens.dtype == torch.int64
    assert model.tokens_to_input(tokens).shape == (2, 29, 4)
    assert model.decode_tokens(tokens).shape == images.shape
    out = model(images)
    assert out.recon.shape == images.shape and out.hits.shape == (4, 16)
    assert out.hits.sum(1).tolist() == [2, 8, 18, 32]


def test_group_norm_groups() -> None:
    assert Vqvae(TINY_VAE).encoder.norm_out.num_groups == 16
    assert Vqvae(SMALL_VAE).encoder.norm_out.num_groups == 32


def test_attention_switches_remove_their_layers() -> None:
    bare = TINY_VAE.model_copy(update={"using_sa": False, "using_mid_sa": False})
    assert not [k for k in Vqvae(bare).state_dict() if "attn" in k]
    assert [k for k in Vqvae(TINY_VAE).state_dict() if "encoder.mid.attn_1" in k]


def test_straight_through_gradient() -> None:
    model = Vqvae.build(TINY_VAE, generator())
    f = torch.randn(2, 4, 4, 4, generator=generator(1), requires_grad=True)
    (grad,) = torch.autograd.grad(model.quantize(f).fhat.sum(), f)
    assert torch.equal(grad, torch.ones_like(f))


def test_training_reduces_the_tokenizer_loss() -> None:
    model = Vqvae.build(TINY_VAE, generator())
    images = torch.rand(16, 1, 8, 8, generator=generator(1)).round() * 2 - 1
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        out = model(images)
        loss = F.mse_loss(out.recon, images) + out.vq_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_dropout_needs_a_generator() -> None:
    model = Vqvae.build(TINY_VAE.model_copy(update={"dropout": 0.5}), generator()).train()
    images = torch.rand(2, 1, 8, 8, generator=generator(1)) * 2 - 1
    plain = model.encode(images)
    assert torch.equal(plain, model.encode(images))
    dropped = model.encode(images, generator=generator(3))
    assert torch.equal(dropped, model.encode(images, generator=generator(3)))
    assert not torch.allclose(dropped, plain)


def test_tokenizer_errors_say_what_to_do() -> None:
    model = Vqvae.build(TINY_VAE, generator())
    with pytest.raises(UserError, match=r"expected \(4, 4, 4\).*patch_nums"):
        model.encode_tokens(torch.zeros(1, 1, 16, 16))
    with pytest.raises(UserError, match=r"expected \(N, 30\)"):
        model.decode_tokens(torch.zeros(1, 29, dtype=torch.int64))


# --- building ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "config"), [(Var, SMALL_VAR), (Vqvae, TINY_VAE)])
def test_build_depends_on_the_generator_only(cls: Any, config: Any) -> None:
    before = torch.random.get_rng_state()
    first, second = (cls.build(config, generator(7)).state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.isfinite(v).all() for k, v in first.items() if "masking" not in k)
    other = cls.build(config, generator(8)).state_dict()
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_tokenizer_init_ranges() -> None:
    model = Vqvae.build(TINY_VAE, generator())
    assert model.quantize.embedding.weight.abs().max() <= 1 / 16
    bound = 1 / math.sqrt(9 * 4)
    weight = model.quant_conv.weight
    assert 0.8 * bound < weight.abs().max() <= bound
    assert torch.equal(model.encoder.norm_out.weight, torch.ones(16))


@pytest.mark.parametrize("shared", [False, True])
def test_transformer_init_scheme(shared: bool) -> None:
    config = VarConfig(depth=2, embed_dim=192, shared_aln=shared, vocab_size=256)
    state = Var.build(config, generator()).state_dict()
    std = math.sqrt(1 / 192 / 3)

    def ratio(key: str, rows: slice = slice(None)) -> float:
        return float(state[key][rows].std()) / std

    assert ratio("word_embed.weight") == pytest.approx(1, rel=0.05)
    assert ratio("pos_1LC") == pytest.approx(1, rel=0.05)
    assert ratio("head.weight") == pytest.approx(0.02, rel=0.05)
    assert ratio("head_nm.ada_lin.1.weight") == pytest.approx(0.5, rel=0.05)
    assert ratio("blocks.1.ffn.fc2.weight") == pytest.approx(1 / math.sqrt(4), rel=0.05)
    assert ratio("blocks.1.attn.proj.weight") == pytest.approx(1 / math.sqrt(4), rel=0.05)
    assert float(state["blocks.0.attn.scale_mul_1H11"][0, 0]) == pytest.approx(math.log(4))
    assert not state["head.bias"].any() and not state["blocks.0.attn.q_bias"].any()
    if shared:
        gss = state["blocks.0.ada_gss"][0, 0] * math.sqrt(192)
        assert float(gss[:2].std()) == pytest.approx(1e-5, rel=0.2)
        assert float(gss[2:].std()) == pytest.approx(0.5, rel=0.2)
        assert ratio("shared_ada_lin.1.weight") == pytest.approx(1, rel=0.05)
    else:
        assert ratio("blocks.0.ada_lin.1.weight", slice(0, 384)) == pytest.approx(1e-5, rel=0.05)
        assert ratio("blocks.0.ada_lin.1.weight", slice(384, None)) == pytest.approx(0.5, rel=0.05)


# --- transformer: closed forms -----------------------------------------------------------------


def randomised(config: VarConfig, seed: int = 0) -> Var:
    """A model whose every parameter matters (the published start is almost uniform)."""
    model = Var.build(config, generator(seed))
    draws = generator(seed + 1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=draws))
    return model


def test_likelihood_sums_to_one_over_all_sequences() -> None:
    vae = Vqvae.build(
        VqvaeConfig(vocab_size=5, z_channels=4, ch=8, ch_mult=(1,), patch_nums=(1, 1)), generator()
    )
    with torch.no_grad():
        vae.quantize.embedding.weight.normal_(generator=generator(1))
    config = VarConfig(
        depth=2, embed_dim=16, num_classes=3, patch_nums=(1, 1), vocab_size=5, z_channels=4
    )
    model = randomised(config).double()
    tokens = torch.tensor(list(itertools.product(range(5), repeat=2)))
    inputs = vae.tokens_to_input(tokens).double()
    for label in range(4):
        with torch.no_grad():
            ell = model.log_likelihood(torch.full((25,), label), tokens, inputs)
        assert float(ell.exp().sum()) == pytest.approx(1, abs=1e-6)
        assert float(ell.exp().std()) > 1e-3


@pytest.mark.parametrize("l2_norm", [True, False])
def test_attention_formula(l2_norm: bool) -> None:
    config = VarConfig(depth=1, embed_dim=12, num_heads=2, attn_l2_norm=l2_norm)
    attention = Attention(config)
    draws = generator(2)
    with torch.no_grad():
        for p in attention.parameters():
            p.normal_(generator=draws)
        if l2_norm:  # the second head's temperature is above the cap of 100
            attention.scale_mul_1H11.copy_(torch.tensor([0.7, 6.0]).view(1, 2, 1, 1))
    x = torch.randn(2, 5, 12, generator=draws)
    q, k, v = (x @ attention.mat_qkv.weight.T).view(2, 5, 3, 2, 6).permute(2, 0, 3, 1, 4)
    q, v = q + attention.q_bias.view(1, 2, 1, 6), v + attention.v_bias.view(1, 2, 1, 6)
    if l2_norm:
        q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
        scores = torch.tensor([math.exp(0.7), 100.0]).view(1, 2, 1, 1) * (q @ k.mT)
    else:
        scores = 0.25 / math.sqrt(6) * (q @ k.mT)
    expected = attention.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(attention(x, None, None), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shared", [False, True])
def test_logits_see_only_coarser_scales(shared: bool) -> None:
    model = randomised(SMALL_VAR.model_copy(update={"shared_aln": shared}))
    inputs = torch.randn(1, 29, 8, generator=generator(3))
    labels = torch.tensor([2])
    with torch.no_grad():
        base = model(labels, inputs)
        changed = inputs.clone()
        changed[:, 4:13] += 1  # what predicts scale 2, tokens 5..13
        logits = model(labels, changed)
        other_class = model(torch.tensor([3]), inputs)
    assert torch.equal(base[:, :5], logits[:, :5])
    assert ((base - logits)[:, 5:].abs().amax(-1) > 1e-5).all()
    assert ((base - other_class).abs().amax(-1) > 1e-5).all()


def test_drop_path_needs_masks() -> None:
    model = randomised(SMALL_VAR.model_copy(update={"drop_path_rate": 0.9})).train()
    inputs, labels = torch.randn(64, 29, 8, generator=generator(3)), torch.arange(64) % 5
    masks = Masks(torch.arange(64), 0.9)
    with torch.no_grad():
        plain = model(labels, inputs)
        assert torch.equal(plain, model(labels, inputs))
        dropped = model(labels, inputs, masks=masks)
        assert torch.equal(dropped, model(labels, inputs, masks=masks))
        some = torch.tensor([40, 3])
        close(model(labels[some], inputs[some], masks=masks.take(some)), dropped[some], atol=1e-5)
    changed = (plain - dropped).abs().amax((1, 2)) > 1e-6
    assert changed.all()  # kept branches are rescaled, so every image changes
    # The rate grows linearly from 0 at the first block.
    assert [block.drop_share for block in model.blocks] == [0.0, 1.0]


def test_drop_path_keeps_the_mean() -> None:
    block = Block(SMALL_VAR, layer=1)
    draws = generator()
    with torch.no_grad():
        for p in block.parameters():
            p.normal_(std=0.3, generator=draws)
    x, cond = (
        torch.randn(1, 3, 48, generator=generator(1)),
        torch.randn(1, 48, generator=generator(2)),
    )
    many = 4000
    masks = Masks(torch.randint(2**31, (many,), generator=generator(3)), 0.25)
    with torch.no_grad():
        block.ffn.fc2.weight.zero_()
        block.ffn.fc2.bias.zero_()
        plain = block(x, cond, None, None, None) - x
        rows = block(x.expand(many, -1, -1), cond.expand(many, -1), None, None, masks) - x
    kept = rows.abs().amax((1, 2)) > 1e-6
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.03)
    close(rows[kept][0], plain[0] / 0.75, atol=1e-3)


def test_forward_rejects_wrong_shapes() -> None:
    model = Var.build(SMALL_VAR, generator())
    with pytest.raises(UserError, match=r"expected \(N,\) and \(N, 29, 8\)"):
        model(torch.zeros(2, dtype=torch.int64), torch.zeros(2, 30, 8))


def test_autocast_keeps_logits_and_tokens_in_full_precision(small_vae: Vqvae) -> None:
    model, latents = randomised(SMALL_VAR), golden("var_vae_small")["f"]
    inputs, labels = torch.randn(2, 29, 8, generator=generator(3)), torch.tensor([0, 4])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(labels, inputs)
        tokens = small_vae.quantize.encode(latents)
        fhat = small_vae.quantize.fhats(tokens)[-1]
    assert logits.dtype == torch.float32
    with torch.no_grad():
        close(logits, model(labels, inputs), atol=0.2)
    assert torch.equal(tokens, golden("var_vae_small")["tokens"])
    close(fhat, golden("var_vae_small")["fhat_last"])


# --- transformer: recorded vectors -------------------------------------------------------------


def test_transformer_keys_equal_released(small_var: Var) -> None:
    expected = weights("var_var")
    state = small_var.state_dict()
    assert {k: (v.shape, v.dtype) for k, v in state.items()} == {
        k: (v.shape, v.dtype) for k, v in expected.items()
    }
    fresh = Var.build(SMALL_VAR, generator()).state_dict()
    for name in ("lvl_1L", "attn_bias_for_masking", "blocks.0.attn.zero_k_bias"):
        assert torch.equal(fresh[name], expected[name])
        assert torch.equal(Var(SMALL_VAR).state_dict()[name], expected[name])


@torch.no_grad()
def test_logits_match_recorded(small_var: Var) -> None:
    data = golden("var_forward")
    labels, null = data["labels"], torch.full_like(data["labels"], small_var.null_label)
    close(small_var(labels, data["var_input"]), data["logits"])
    close(small_var(labels, data["var_input2"]), data["logits2"])
    close(small_var(null, data["var_input"]), data["logits_uncond"])
    dropped = torch.where(data["drop_rand"] < 0.5, null, labels)
    assert not torch.equal(dropped, labels)
    close(small_var(dropped, data["var_input"]), data["logits_drop0.5"])


@torch.no_grad()
def test_log_likelihood_matches_recorded(small_var: Var, small_vae: Vqvae) -> None:
    data = golden("var_forward")
    tokens, inputs = data["tokens"], small_vae.tokens_to_input(data["tokens"])
    close(inputs, data["var_input"])
    close(small_var.log_likelihood(data["labels"], tokens, inputs), data["logp_per_sample"], 1e-3)
    null = torch.full_like(data["labels"], small_var.null_label)
    close(small_var.log_likelihood(null, tokens, inputs), data["logp_per_sample_uncond"], 1e-3)
    for label in range(5):
        ell = small_var.log_likelihood(torch.full((3,), label), tokens, inputs)
        close(ell, data["logp_per_class"][:, label], 1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_match_recorded(small_var: Var, smoothing: float) -> None:
    data = golden("var_forward")
    logits = small_var(data["labels"], data["var_input"])
    loss = F.cross_entropy(logits.transpose(1, 2), data["tokens"], label_smoothing=smoothing)
    close(loss.detach(), data[f"train_loss_ls{smoothing}"], 1e-5)
    names = data["grad_names"].tolist()
    assert sorted(names) == sorted(name for name, _ in small_var.named_parameters())
    parameters = [small_var.get_parameter(name) for name in names]
    grads = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    norms = torch.stack([grads[name].norm() for name in names])
    torch.testing.assert_close(norms, data[f"train_gradnorm_ls{smoothing}"], atol=1e-6, rtol=1e-3)
    if smoothing == 0.0:
        for key in (k for k in data if k.startswith("grad:")):
            expected = data[key]
            close(grads[key[5:]], expected, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def test_gradient_of_log_likelihood_is_exact(small_var: Var) -> None:
    data = golden("var_forward")
    with torch.enable_grad():
        ell = small_var.log_likelihood(data["labels"], data["tokens"], data["var_input"])
        (grad,) = torch.autograd.grad(-ell.mean() / 30, small_var.get_parameter("head.weight"))
    expected = data["grad:head.weight"]
    close(grad, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("p", [1, 3, 4])
def test_bicubic_enlargement_by_products(p: int) -> None:
    """The form that GPUs train with: same values, same gradient."""
    h = torch.randn(2, 3, p, p, generator=generator(), dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, 8, 8, generator=generator(1), dtype=torch.float64)
    expected, found = enlarge(h, 8), enlarge_by_products(h, 8)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    a, b = (torch.autograd.grad((y * weights).sum(), h)[0] for y in (expected, found))
    torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)
