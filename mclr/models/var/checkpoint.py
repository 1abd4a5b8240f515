"""VAR's ``.pth`` files: the transformer and its tokenizer; architectures come from the shapes.

A released file is a plain state dict. A training checkpoint keeps the transformer under
``trainer.var_wo_ddp``, the tokenizer under ``trainer.vae_local`` and the sides of the grids in
``trainer.config``. What a file does not tell is taken from ``told``, or has the official default
and is listed; where there is no such default, the file is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mclr.checkpoints.fit import (
    MASK,
    check_bytes,
    check_finite,
    check_number,
    count_parameters,
    misfit,
    validated,
)
from mclr.checkpoints.nested import Found, find_states, only
from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.models.spec import VarSpec
from mclr.models.var.config import PATCH_NUMS_256, PatchNums, VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae

VarKind = Literal["var", "vqvae"]
Values = dict[str, Any]
OFFICIAL_PLACES: dict[VarKind, str] = {"var": "trainer.var_wo_ddp", "vqvae": "trainer.vae_local"}
MARKS: dict[VarKind, str] = {"var": "lvl_1L", "vqvae": "quantize.embedding.weight"}
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64)
# What shapes do not tell, with the official default.
UNTOLD: dict[VarKind, Values] = {
    "var": {"drop_path_rate": 0.0, "norm_eps": 1e-6},
    "vqvae": {
        "dropout": 0.0,
        "quant_resi": 0.5,
        "beta": 0.25,
        "using_znorm": False,
        "patch_nums": PATCH_NUMS_256,
    },
}
OPTIONS: dict[VarKind, tuple[str, ...]] = {
    "var": ("num_heads", "norm_eps"),
    "vqvae": ("patch_nums", "quant_resi", "using_znorm"),
}
PHI, ONE_PHI = "quantize.quant_resi.qresi_ls.", "quantize.quant_resi.qresi."


@dataclass(frozen=True)
class VarFile:
    """A transformer or a tokenizer: weights, the architecture their shapes tell, and the rest."""

    kind: VarKind
    config: VarConfig | VqvaeConfig
    tensors: dict[str, Tensor]
    parameters: int
    assumed: Values  # what the file does not tell, with the value taken
    dropped: list[str]
    said: list[str] = field(default_factory=list)  # what was undone: places, prefixes, names


def read_var(
    content: Any, source: Path, kind: VarKind | None = None, told: Mapping[str, Any] | None = None
) -> VarFile:
    """The transformer or tokenizer in the content of a ``.pth`` file; ``kind`` None: what it has.

    ``told``: values of the architecture, for what the file does not tell (``OPTIONS``).

    Raises:
        UserError: neither is there, or its weights do not fit together, or not what is told, or
            it does not tell what has no default.
    """
    found, which = _find(content, source, kind)
    state, said = _usual_names(found.state, found.said(OFFICIAL_PLACES[which]))
    for name, tensor in state.items():
        _check_tensor(name, tensor, source)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    check_bytes(sum(tensor.nbytes for tensor in state.values()), _stored(state), source)
    try:
        values = _transformer(state) if which == "var" else _tokenizer(shapes)
        stated = _stated_grids(content, source, which)
    except LookupError as error:
        misfit(source, f"not all {which} weights of VAR: {error} is missing")
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        misfit(source, f"not the {which} weights of VAR: {error}")
    if stated is not None and values.setdefault("patch_nums", stated) != stated:
        misfit(source, f"trainer.config has patch_nums {stated}, its weights are of others")
    config, assumed = _architecture(which, values, told or {}, source)
    if isinstance(config, VarConfig):
        check_number(config.depth, len(state), source)
        _check_levels(config, state, source)
        parameters = count_parameters(lambda: Var(config), shapes, source)
    else:
        check_number(len(config.ch_mult) * config.num_res_blocks, len(state), source)
        _check_scales(config, shapes, source)
        parameters = count_parameters(lambda: Vqvae(config), shapes, source)
    check_finite(state, source)
    return VarFile(which, config, state, parameters, assumed, found.dropped, said)


def official_names(found: VarFile) -> dict[str, Tensor]:
    """Its tensors by the names that the official code gives them."""
    if getattr(found.config, "share_quant_resi", None) != 1:
        return found.tensors
    return {name.replace(f"{PHI}0.", ONE_PHI): tensor for name, tensor in found.tensors.items()}


def described_var(network: VarSpec, images: Manifest) -> dict[str, Callable[[], nn.Module]]:
    """What builds the networks of a specification, from no file; see ``mclr.models.foreign``."""
    told = network.model_dump(exclude={"family", "tokenizer"})
    codes = VqvaeConfig(**network.tokenizer.model_dump(), img_channels=images.channels)
    shared = codes.model_dump(include={"patch_nums", "vocab_size", "z_channels"})
    var = VarConfig(**told, **shared, num_classes=images.num_classes)
    return {"model": lambda: Var(var), "tokenizer": lambda: Vqvae(codes)}


def _find(content: Any, source: Path, kind: VarKind | None) -> tuple[Found, VarKind]:
    """The state dict of the wanted kind; without one the transformer, where there are both."""
    for which in MARKS if kind is None else (kind,):
        found = only(find_states(content, MARKS[which], source), which, source)
        if found:
            return found, which
    wanted = "VAR transformer or tokenizer" if kind is None else f"{kind} weights of VAR"
    keys = [str(key)[:40] for key in content][:5] if isinstance(content, Mapping) else []
    misfit(source, f"no {wanted} (its first keys: {', '.join(keys) or 'none'})")


def _usual_names(state: Values, said: list[str]) -> tuple[Values, list[str]]:
    """Names as with phis that some scales share: alone, or one for each scale, they have others."""
    names = {name: _phi_name(name) for name in state}
    if all(name == usual for name, usual in names.items()) or len(set(names.values())) < len(names):
        return state, said
    count = "1" if any(name.startswith(ONE_PHI) for name in names) else "0"
    said = [*said, f"share_quant_resi {count}: its names are here {PHI}N"]
    return {names[name]: tensor for name, tensor in state.items()}, said


def _phi_name(name: str) -> str:
    if name.startswith(ONE_PHI):
        return f"{PHI}0.{name.removeprefix(ONE_PHI)}"
    return re.sub(r"^quantize\.quant_resi\.(\d+)\.", rf"{PHI}\1.", name)


def _check_tensor(name: object, tensor: object, source: Path) -> None:
    """A plain tensor that owns as many values as it shows."""
    plain = type(name) is str and type(tensor) in (Tensor, torch.nn.Parameter)
    if not plain or not isinstance(tensor, Tensor):
        misfit(source, f"{str(name)[:80]!r} is not a tensor")
    if tensor.layout != torch.strided or tensor.dtype not in DTYPES or tensor.is_meta:
        misfit(source, f"{name} has type {tensor.dtype}, {tensor.layout}")
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        misfit(source, f"{name} shows more values than are stored")


def _stored(state: Mapping[str, Tensor]) -> int:
    """Bytes of all storages."""
    storages = (tensor.untyped_storage() for tensor in state.values())
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _count(names: Iterable[str], prefix: str) -> int:
    """How many numbered entries follow the prefix: prefix.0, prefix.1, …"""
    rest = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return len({name.split(".")[0] for name in rest})


def _transformer(state: Mapping[str, Tensor]) -> Values:
    """What its weights tell of the transformer's architecture."""
    width, z_channels = state["word_embed.weight"].shape
    scale_mul = state.get("blocks.0.attn.scale_mul_1H11")
    heads = {} if scale_mul is None else {"num_heads": scale_mul.numel()}
    return heads | {
        "depth": _count(state, "blocks."),
        "embed_dim": width,
        "mlp_ratio": len(state["blocks.0.ffn.fc1.weight"]) / width,
        "attn_l2_norm": scale_mul is not None,
        "shared_aln": "shared_ada_lin.1.weight" in state,
        "num_classes": len(state["class_emb.weight"]) - 1,
        "patch_nums": _grids(state["lvl_1L"]),
        "vocab_size": len(state["head.weight"]),
        "z_channels": z_channels,
    }


def _grids(levels: Tensor) -> PatchNums:
    """Sides of the grids from the scale of each token."""
    flat = levels.flatten()
    if flat.dtype != torch.int64 or not 0 <= int(flat.min()) <= int(flat.max()) < len(flat):
        raise ValueError("lvl_1L is not the scale of each token")
    return tuple(math.isqrt(n) for n in flat.bincount().tolist())


def _tokenizer(shapes: Mapping[str, tuple[int, ...]]) -> Values:
    """What its weights tell of the tokenizer's architecture."""
    vocab_size, z_channels = shapes["quantize.embedding.weight"]
    ch, img_channels, *_ = shapes["encoder.conv_in.weight"]
    levels, phis = _count(shapes, "encoder.down."), _count(shapes, PHI)
    widths = [shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] for i in range(levels)]
    if not phis:
        raise ValueError("it has no phi convolutions (quant_resi 0), which is not supported")
    return {
        "vocab_size": vocab_size,
        "z_channels": z_channels,
        "ch": ch,
        "ch_mult": tuple(width // ch for width in widths),
        "num_res_blocks": _count(shapes, "encoder.down.0.block."),
        "using_sa": f"encoder.down.{levels - 1}.attn.0.norm.weight" in shapes,
        "using_mid_sa": "encoder.mid.attn_1.norm.weight" in shapes,
        "share_quant_resi": phis,
        "quant_conv_ks": shapes["quant_conv.weight"][-1],
        "img_channels": img_channels,
    }


def _stated_grids(content: Any, source: Path, kind: VarKind) -> PatchNums | None:
    """Sides of the grids that a training checkpoint tells, in its configuration or transformer."""
    trainer = content.get("trainer") if isinstance(content, Mapping) else None
    config = trainer.get("config") if isinstance(trainer, Mapping) else None
    stated = config.get("patch_nums") if isinstance(config, Mapping) else None
    if isinstance(stated, list | tuple) and all(type(side) is int for side in stated):
        return tuple(stated)
    if kind == "vqvae":
        beside = find_states(content, MARKS["var"], source)
        return _grids(beside[0].state[MARKS["var"]]) if len(beside) == 1 else None
    return None


def _architecture(
    kind: VarKind, values: Values, told: Mapping[str, Any], source: Path
) -> tuple[VarConfig | VqvaeConfig, Values]:
    """The configuration, and those of its values that the file does not tell."""
    model: type[VarConfig] | type[VqvaeConfig] = VarConfig if kind == "var" else VqvaeConfig
    for key in told.keys() - model.model_fields.keys():
        raise UserError(
            f"{source}: {key} is nothing that {kind} weights have; what may be said of them: "
            f"{', '.join(OPTIONS[kind])}"
        )
    whole = UNTOLD[kind] | dict(told) | values
    if kind == "var" and "num_heads" not in whole:
        raise UserError(
            f"{source}: a transformer without attn_l2_norm does not tell its number of heads, "
            "and with another its outputs are others; import it with `mclr import-weights --assume "
            "num_heads=N`"
        )
    config = validated(model, whole, source)
    said = validated(model, whole | dict(told), source)
    for key in told:
        if getattr(said, key) != getattr(config, key):
            misfit(source, f"{key} is {getattr(config, key)} in it, not {getattr(said, key)}")
    untold = {key: getattr(config, key) for key in whole if key not in values}
    return config, {k: list(v) if isinstance(v, tuple) else v for k, v in untold.items()}


def _check_levels(config: VarConfig, state: Mapping[str, Tensor], source: Path) -> None:
    """The buffers that say which scale a token is of, and which it sees: others are damage."""
    mask, levels = state.get(MASK), torch.tensor(config.patch_nums).square()
    if mask is None or mask.shape != (1, 1, config.length, config.length):
        misfit(source, f"{MASK} does not fit lvl_1L")
    levels = torch.arange(len(levels)).repeat_interleave(levels)
    if not torch.equal(state[MARKS["var"]], levels[None]):
        misfit(source, f"lvl_1L is not the scale of each token of {config.patch_nums}")
    unseen = levels[:, None] < levels
    if not torch.equal(
        mask[0, 0].float(), torch.zeros(unseen.shape).masked_fill(unseen, -math.inf)
    ):
        misfit(source, f"{MASK} has other values than 0, and -inf for later scales")


def _check_scales(config: VqvaeConfig, shapes: Mapping[str, tuple[int, ...]], source: Path) -> None:
    """As many grids as the weights have scales."""
    scales = shapes.get("quantize.ema_vocab_hit_SV", (0,))[0]
    if len(config.patch_nums) != scales:
        raise UserError(
            f"{source}: the tokenizer has {scales} scales, but patch_nums "
            f"{list(config.patch_nums)} has {len(config.patch_nums)}; say the sides of its grids "
            "with --patch-nums"
        )
