"""Presets at real size: names, shapes, counts and costs, built without memory."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mclr.models.edm2.config import PRESETS, Edm2Network, preset
from mclr.models.edm2.cost import evaluation_macs
from mclr.models.edm2.precond import Precond
from mclr.models.var.config import VAR_PRESETS, VarConfig, VqvaeConfig, var_preset
from mclr.models.var.cost import generation_macs, likelihood_macs
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae

PAGE = (Path(__file__).parents[2] / "docs" / "presets.md").read_text(encoding="utf-8")
Shapes = dict[str, tuple[int, ...]]

# Karras et al. 2024 (arXiv 2312.02696), Table 6: millions of parameters and Gflops.
EDM2_PAPER = {
    "edm2-img64-s": (280.2, 101.9),
    "edm2-img512-xs": (124.7, 45.5),
    "edm2-img512-s": (280.2, 102.2),
    "edm2-img512-m": (497.8, 180.8),
    "edm2-img512-l": (777.5, 282.2),
    "edm2-img512-xl": (1119.3, 405.9),
    "edm2-img512-xxl": (1523.2, 552.1),
}
VAR_README = {
    "var-d16": "310M",
    "var-d20": "600M",
    "var-d24": "1.0B",
    "var-d30": "2.0B",
    "var-d36": "2.3B",
}


def page_rows() -> dict[str, list[str]]:
    """Cells of the page's tables by preset; recipes, at its end, have tables of their own."""
    networks, _ = PAGE.split("\n## Recipes of fine-tuning\n")
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", networks, flags=re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in rows}


# --- EDM2: the official names, written down from the paper's Figure 22 --------------------------


def edm2_shapes(c: Edm2Network) -> Shapes:
    """State of a network with three blocks per level and attention at 16 and 8 pixels."""
    width = [c.model_channels * m for m in (1, 2, 3, 4)]
    emb = width[3]
    shapes: Shapes = {
        "unet.out_gain": (),
        "unet.emb_fourier.freqs": (width[0],),
        "unet.emb_fourier.phases": (width[0],),
        "unet.emb_noise.weight": (emb, width[0]),
        "unet.emb_label.weight": (emb, c.label_dim),
        "unet.enc.64x64_conv.weight": (width[0], c.img_channels + 1, 3, 3),
        "unet.out_conv.weight": (c.img_channels, width[0], 3, 3),
        "logvar_fourier.freqs": (128,),
        "logvar_fourier.phases": (128,),
        "logvar_linear.weight": (1, 128),
    }
    for name, c_in, c_out, attention in [*encoder_blocks(width), *decoder_blocks(width)]:
        inner = c_out if name.startswith("unet.enc") else c_in
        shapes[f"{name}.emb_gain"] = ()
        shapes[f"{name}.conv_res0.weight"] = (c_out, inner, 3, 3)
        shapes[f"{name}.emb_linear.weight"] = (c_out, emb)
        shapes[f"{name}.conv_res1.weight"] = (c_out, c_out, 3, 3)
        if c_in != c_out:
            shapes[f"{name}.conv_skip.weight"] = (c_out, c_in, 1, 1)
        if attention:
            shapes[f"{name}.attn_qkv.weight"] = (3 * c_out, c_out, 1, 1)
            shapes[f"{name}.attn_proj.weight"] = (c_out, c_out, 1, 1)
    return shapes


def encoder_blocks(width: list[int]) -> Iterator[tuple[str, int, int, bool]]:
    """Name, channels in, channels out, attention."""
    for level, side in enumerate((64, 32, 16, 8)):
        below = width[max(level - 1, 0)]
        if level:
            yield f"unet.enc.{side}x{side}_down", below, below, False
        for i, c_in in enumerate((below, width[level], width[level])):
            yield f"unet.enc.{side}x{side}_block{i}", c_in, width[level], side <= 16


def decoder_blocks(width: list[int]) -> Iterator[tuple[str, int, int, bool]]:
    """Skips come from the encoder in reverse: three blocks, then what led into the level."""
    for level, side in reversed(list(enumerate((64, 32, 16, 8)))):
        above, below = width[min(level + 1, 3)], width[max(level - 1, 0)]
        if level == 3:
            yield "unet.dec.8x8_in0", above, above, True
            yield "unet.dec.8x8_in1", above, above, False
        else:
            yield f"unet.dec.{side}x{side}_up", above, above, False
        skips = [width[level]] * 3 + [below]
        for i, skip in enumerate(skips):
            c_in = (above if i == 0 else width[level]) + skip
            yield f"unet.dec.{side}x{side}_block{i}", c_in, width[level], side <= 16


@pytest.mark.parametrize("name", PRESETS)
def test_edm2_names_and_shapes(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):
        net = Precond(config)
    state = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    expected = edm2_shapes(config)
    assert state == expected and len(state) == 203
    parameters = sum(p.numel() for p in net.parameters())
    assert parameters == sum(math.prod(s) for k, s in expected.items() if "fourier" not in k)
    assert f"{parameters / 1e6:.1f}" == f"{EDM2_PAPER[name][0]:.1f}"
    assert page_rows()[name][0] == f"{parameters:,}"


@pytest.mark.parametrize("name", PRESETS)
def test_edm2_cost(name: str) -> None:
    """Within 1.4 % of the paper, whose count includes operations per element."""
    gflops = evaluation_macs(preset(name)) / 1e9
    published = EDM2_PAPER[name][1]
    assert 0.986 * published < gflops < published
    assert page_rows()[name][1:3] == [f"{gflops:.1f}", f"{published}"]


def test_edm2_cost_by_kind_of_operation() -> None:
    """Appendix D.5: 545.50 Gflops of convolutions in the largest network, 1.43 of products."""
    config = preset("edm2-img512-xxl")
    convolutions = 0
    for key, shape in edm2_shapes(config).items():
        if len(shape) == 4:
            match = re.search(r"(\d+)x\d+_", key)
            convolutions += math.prod(shape) * (int(match.group(1)) if match else 64) ** 2
    assert convolutions / 1e9 == pytest.approx(545.50, abs=0.04)
    products = evaluation_macs(config) - convolutions
    assert products / 1e9 == pytest.approx(1.43, abs=0.005)


def test_cost_is_proportional_to_the_batch() -> None:
    tiny = Edm2Network(img_resolution=8, img_channels=1, label_dim=3, model_channels=8)
    per_image = evaluation_macs(tiny, 2) - evaluation_macs(tiny, 1)
    assert evaluation_macs(tiny, 5) == 5 * per_image > 0
    small = VarConfig(depth=2, embed_dim=32, num_heads=2, patch_nums=(1, 2, 3))
    assert likelihood_macs(small, 3) == 3 * likelihood_macs(small)
    assert generation_macs(small, 3) == 3 * generation_macs(small)


# --- VAR ---------------------------------------------------------------------------------------


def var_shapes(c: VarConfig, depth: int) -> Shapes:
    """State of a transformer: names of the released checkpoints."""
    width = 64 * depth
    length = sum(p * p for p in c.patch_nums)
    shapes: Shapes = {
        "pos_start": (1, 1, width),
        "pos_1LC": (1, length, width),
        "lvl_1L": (1, length),
        "attn_bias_for_masking": (1, 1, length, length),
        "word_embed.weight": (width, 32),
        "word_embed.bias": (width,),
        "class_emb.weight": (1001, width),
        "lvl_embed.weight": (len(c.patch_nums), width),
        "head_nm.ada_lin.1.weight": (2 * width, width),
        "head_nm.ada_lin.1.bias": (2 * width,),
        "head.weight": (4096, width),
        "head.bias": (4096,),
    }
    shared = depth == 36
    if shared:
        shapes["shared_ada_lin.1.weight"] = (6 * width, width)
        shapes["shared_ada_lin.1.bias"] = (6 * width,)
    block: Shapes = {
        "attn.scale_mul_1H11": (1, depth, 1, 1),
        "attn.q_bias": (width,),
        "attn.v_bias": (width,),
        "attn.zero_k_bias": (width,),
        "attn.mat_qkv.weight": (3 * width, width),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "ffn.fc1.weight": (4 * width, width),
        "ffn.fc1.bias": (4 * width,),
        "ffn.fc2.weight": (width, 4 * width),
        "ffn.fc2.bias": (width,),
    }
    if shared:
        block["ada_gss"] = (1, 1, 6, width)
    else:
        block |= {"ada_lin.1.weight": (6 * width, width), "ada_lin.1.bias": (6 * width,)}
    for i in range(depth):
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return shapes


@pytest.mark.parametrize("name", VAR_PRESETS)
def test_var_names_and_shapes(name: str) -> None:
    config = var_preset(name)
    with torch.device("meta"):
        net = Var(config)
    state = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert state == var_shapes(config, int(name.removeprefix("var-d")))
    parameters = sum(p.numel() for p in net.parameters())
    buffers = ("lvl_1L", "attn_bias_for_masking", "zero_k_bias")
    assert parameters == sum(math.prod(s) for k, s in state.items() if not k.endswith(buffers))
    millions = math.floor(parameters / 1e6)
    cut = f"{millions}M" if millions < 1000 else f"{millions // 100 / 10}B"
    assert cut == VAR_README[name]  # whose numbers are cut off, not rounded
    page = page_rows()[name]
    pixels = 16 * config.patch_nums[-1]
    assert page[:3] == [str(pixels), f"{config.length:,}", f"{parameters:,}"]


def test_published_tokenizer_is_on_the_page() -> None:
    with torch.device("meta"):
        vqvae = Vqvae(VqvaeConfig())
    parameters = sum(p.numel() for p in vqvae.parameters())
    assert f"{parameters:,} parameters" in PAGE


def var_cost(c: VarConfig, new: int, seen: int, embedded: int) -> int:
    """Multiply-adds of evaluating ``new`` tokens that attend to ``seen`` ones.

    Per block and token 3 C² for q, k, v, C² for the projection and 8 C² for the feed-forward part;
    2 C per pair of tokens for scores and mixing; 6 C² per image for the modulation.
    """
    width, depth = c.width, c.depth
    modulations = 1 if c.shared_aln else depth
    blocks = depth * (12 * new * width**2 + 2 * new * seen * width) + modulations * 6 * width**2
    return blocks + embedded * 32 * width + 2 * width**2 + new * width * 4096


def var_costs(c: VarConfig) -> tuple[int, int, int]:
    """Likelihood, cached and uncached generation, by hand."""
    ends = [sum(p * p for p in c.patch_nums[: i + 1]) for i in range(len(c.patch_nums))]
    likelihood = var_cost(c, ends[-1], ends[-1], ends[-1] - 1)
    cached = sum(
        var_cost(c, end - begin, end, (end - begin) if begin else 0)
        for begin, end in zip([0, *ends], ends, strict=False)
    )
    return likelihood, cached, sum(var_cost(c, end, end, end - 1) for end in ends)


@pytest.mark.parametrize("name", ["var-d16", "var-d36"])
def test_var_cost_is_that_of_its_matrix_products(name: str) -> None:
    config = var_preset(name)
    likelihood, cached, uncached = var_costs(config)
    assert likelihood_macs(config) == likelihood
    assert generation_macs(config) == cached
    if name == "var-d16":
        assert generation_macs(config, cached=False) == uncached


@pytest.mark.parametrize("name", VAR_PRESETS)
def test_var_costs_are_on_the_page(name: str) -> None:
    costs = [f"{cost / 1e9:.1f}" for cost in var_costs(var_preset(name))]
    assert page_rows()[name][3:6] == costs


# --- the page ----------------------------------------------------------------------------------


def test_page_lists_the_presets_and_weights_of_their_size() -> None:
    rows = page_rows()
    assert list(rows) == [*PRESETS, *VAR_PRESETS]
    for name in PRESETS:
        weights = re.findall(r"`([^`]+)`", rows[name][-1])
        assert weights and all(re.fullmatch(rf"{name}-\d{{7}}-0\.\d{{3}}", w) for w in weights)
    for name in VAR_PRESETS:
        assert rows[name][-1] == f"`{name.replace('-', '_')}.pth`"
