"""VAR's ``.pth`` files: the transformer and its tokenizer; architectures come from the shapes.

A released file is a plain state dict. A training checkpoint keeps the transformer under
``trainer.var_wo_ddp`` and the tokenizer under ``trainer.vae_local``.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mclr.checkpoints.fit import count_parameters, misfit, validated
from mclr.checkpoints.vocabulary import refuse
from mclr.errors import UserError
from mclr.models.var.config import PATCH_NUMS_256, PatchNums, VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae

VarKind = Literal["var", "vqvae"]
TRAINER_KEYS: dict[VarKind, str] = {"var": "var_wo_ddp", "vqvae": "vae_local"}
MARKS: dict[VarKind, str] = {"var": "lvl_1L", "vqvae": "quantize.embedding.weight"}
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64)
HEAD_WIDTH = 64  # channels per head of every published transformer


@dataclass(frozen=True)
class VarFile:
    """A transformer or a tokenizer: weights, the architecture their shapes tell, and the rest."""

    kind: VarKind
    config: VarConfig | VqvaeConfig
    tensors: dict[str, Tensor]
    parameters: int
    assumed: dict[str, Any]  # what shapes do not tell, with the value taken
    dropped: list[str]


def read_pth(source: Path) -> Any:
    """The content of a ``.pth`` file: tensors (mapped, not read) and plain values only.

    Raises:
        UserError: damaged, or it holds anything else; nothing of it was executed.
    """
    try:
        # Only zip files can be mapped; older torch wrote another format.
        mapped = zipfile.is_zipfile(source)
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line]
        reason = (lines or [type(error).__name__])[0][:200]
        refuse(source, f"not a .pth file of tensors and plain values ({reason})")
    except (EOFError, AttributeError, ArithmeticError, MemoryError, AssertionError) as error:
        refuse(source, f"a damaged .pth file ({type(error).__name__})")


def read_var(
    content: Any, source: Path, kind: VarKind | None = None, patch_nums: PatchNums | None = None
) -> VarFile:
    """The transformer or tokenizer in the content of a ``.pth`` file; ``kind`` None: what it has.

    ``patch_nums``: grid sides of a tokenizer's scales, which its file does not tell.

    Raises:
        UserError: neither is there, or its weights do not fit together.
    """
    state, found, dropped = _find(content, source, kind)
    for name, tensor in state.items():
        _check_tensor(name, tensor, source)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    try:
        if found == "var":
            values, assumed = _transformer(state)
        else:
            values, assumed = _tokenizer(shapes, patch_nums, source)
    except LookupError as error:
        misfit(source, f"not all {found} weights of VAR: {error} is missing")
    except (ValueError, TypeError, ArithmeticError) as error:
        misfit(source, f"not the {found} weights of VAR: {error}")
    if found == "var":
        var = validated(VarConfig, values, source)
        if shapes.get("attn_bias_for_masking") != (1, 1, var.length, var.length):
            misfit(source, "attn_bias_for_masking does not fit lvl_1L")
        parameters = count_parameters(lambda: Var(var), shapes, source)
        return VarFile(found, var, state, parameters, assumed, dropped)
    codes = validated(VqvaeConfig, values, source)
    parameters = count_parameters(lambda: Vqvae(codes), shapes, source)
    return VarFile(found, codes, state, parameters, assumed, dropped)


def _find(
    content: Any, source: Path, kind: VarKind | None
) -> tuple[dict[str, Any], VarKind, list[str]]:
    """The state dict of the wanted kind, its kind, and what else the file holds."""
    if isinstance(content, Mapping):
        trainer = content.get("trainer")
        if isinstance(trainer, Mapping):
            rest = [str(key) for key in content if key != "trainer"]
            rest += [f"trainer.{key}" for key in trainer]
            for name, key in TRAINER_KEYS.items():
                state = trainer.get(key)
                if kind in (None, name) and isinstance(state, Mapping) and MARKS[name] in state:
                    return dict(state), name, [r for r in rest if r != f"trainer.{key}"]
        for name, mark in MARKS.items():
            if kind in (None, name) and mark in content:
                return dict(content), name, []
    wanted = "VAR transformer or tokenizer" if kind is None else f"{kind} weights of VAR"
    keys = [str(key)[:40] for key in content][:5] if isinstance(content, Mapping) else []
    misfit(source, f"no {wanted} (its first keys: {', '.join(keys) or 'none'})")


def _check_tensor(name: object, tensor: object, source: Path) -> None:
    """A plain tensor that owns as many values as it shows."""
    plain = type(name) is str and type(tensor) in (Tensor, torch.nn.Parameter)
    if not plain or not isinstance(tensor, Tensor):
        misfit(source, f"{str(name)[:80]!r} is not a tensor")
    if tensor.layout != torch.strided or tensor.dtype not in DTYPES or tensor.is_meta:
        misfit(source, f"{name} has type {tensor.dtype}, {tensor.layout}")
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        misfit(source, f"{name} shows more values than are stored")


def _count(names: Iterable[str], prefix: str) -> int:
    """How many numbered entries follow the prefix: prefix.0, prefix.1, …"""
    rest = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return len({name.split(".")[0] for name in rest})


def _transformer(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Architecture of the transformer, and what its weights do not tell."""
    width, z_channels = state["word_embed.weight"].shape
    scale_mul = state.get("blocks.0.attn.scale_mul_1H11")
    assumed: dict[str, Any] = {"drop_path_rate": 0.0, "norm_eps": 1e-6}
    if scale_mul is None:
        assumed["num_heads"] = width // HEAD_WIDTH
    levels = state["lvl_1L"].flatten()
    if levels.dtype != torch.int64 or not 0 <= int(levels.min()) <= int(levels.max()) < len(levels):
        raise ValueError("lvl_1L is not the scale of each token")
    values = {
        "depth": _count(state, "blocks."),
        "embed_dim": width,
        "num_heads": assumed.get("num_heads") if scale_mul is None else scale_mul.numel(),
        "mlp_ratio": len(state["blocks.0.ffn.fc1.weight"]) / width,
        "attn_l2_norm": scale_mul is not None,
        "shared_aln": "shared_ada_lin.1.weight" in state,
        "num_classes": len(state["class_emb.weight"]) - 1,
        "patch_nums": tuple(math.isqrt(n) for n in levels.bincount().tolist()),
        "vocab_size": len(state["head.weight"]),
        "z_channels": z_channels,
    }
    return values | {key: assumed[key] for key in ("drop_path_rate", "norm_eps")}, assumed


def _tokenizer(
    shapes: Mapping[str, tuple[int, ...]], patch_nums: PatchNums | None, source: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Architecture of the tokenizer, and what its weights do not tell."""
    vocab_size, z_channels = shapes["quantize.embedding.weight"]
    ch, img_channels, *_ = shapes["encoder.conv_in.weight"]
    scales, levels = shapes["quantize.ema_vocab_hit_SV"][0], _count(shapes, "encoder.down.")
    widths = [shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] for i in range(levels)]
    assumed: dict[str, Any] = {"dropout": 0.0, "quant_resi": 0.5, "beta": 0.25}
    if patch_nums is None:
        patch_nums = PATCH_NUMS_256
        assumed["patch_nums"] = list(patch_nums)
    if len(patch_nums) != scales:
        raise UserError(
            f"{source}: the tokenizer has {scales} scales, but patch_nums {list(patch_nums)} has "
            f"{len(patch_nums)}; say the sides of its grids with --patch-nums"
        )
    values = {
        "vocab_size": vocab_size,
        "z_channels": z_channels,
        "ch": ch,
        "ch_mult": tuple(width // ch for width in widths),
        "num_res_blocks": _count(shapes, "encoder.down.0.block."),
        "using_sa": f"encoder.down.{levels - 1}.attn.0.norm.weight" in shapes,
        "using_mid_sa": "encoder.mid.attn_1.norm.weight" in shapes,
        "share_quant_resi": _count(shapes, "quantize.quant_resi.qresi_ls."),
        "patch_nums": patch_nums,
        "img_channels": img_channels,
    }
    return values | {key: assumed[key] for key in ("dropout", "quant_resi", "beta")}, assumed
