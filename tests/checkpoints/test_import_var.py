"""VAR's .pth files: architectures from shapes, the recorded outputs, and hostile files."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from mclr.errors import UserError
from mclr.models.var.config import PATCH_NUMS_256, VAR_PRESETS, VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae
from mclr.weights.header import Header, load_checkpoint, load_statistics
from mclr.weights.importer import OLD_TORCH, import_weights

GOLDEN = Path(__file__).parents[1] / "golden"
SCALES = (1, 2, 3, 4)


def golden_state(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        return load_file(path), json.loads(file.metadata()["config"])


def save(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def run(tmp_path: Path, content: Any, **options: Any) -> Header:
    source = save(tmp_path / "x.pth", content)
    return import_weights(source, tmp_path / "x.safetensors", **options)


def error(tmp_path: Path, content: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        run(tmp_path, content, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_transformer(tmp_path: Path, zipped: bool) -> None:
    state, config = golden_state("var_var")
    source = save(tmp_path / "var.pth", state, _use_new_zipfile_serialization=zipped)
    assert (source.read_bytes()[: len(OLD_TORCH)] == OLD_TORCH) is not zipped
    out = tmp_path / "var.safetensors"
    header = import_weights(source, out)
    found = load_file(out)
    assert found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)
    for key in ("depth", "embed_dim", "num_heads", "mlp_ratio", "num_classes", "shared_aln"):
        assert header.architecture[key] == config[key]
    assert header.architecture["patch_nums"] == config["patch_nums"]
    assert (header.architecture["vocab_size"], header.architecture["z_channels"]) == (32, 8)
    assert header.assumed == {"drop_path_rate": 0.0, "norm_eps": 1e-6}
    assert (header.kind, header.stored_dtype) == ("var", "float32")
    net, _ = load_checkpoint(out)
    with np.load(GOLDEN / "var_forward.npz") as data:
        labels, inputs, logits = (
            torch.from_numpy(data[key]) for key in ("labels", "var_input", "logits")
        )
    torch.testing.assert_close(net(labels, inputs), logits, rtol=0, atol=1e-5)
    assert net.get_buffer("lvl_1L").dtype == torch.int64 and not net.training


def test_tokenizer(tmp_path: Path) -> None:
    state, _ = golden_state("var_vae_small")
    source = save(tmp_path / "vae.pth", state)
    out = tmp_path / "vae.safetensors"
    header = import_weights(source, out, told={"patch_nums": SCALES})
    assert (header.kind, header.stored_dtype) == ("vqvae", "float16")
    default = {"dropout": 0.0, "quant_resi": 0.5, "beta": 0.25, "using_znorm": False}
    assert header.assumed == default | {"patch_nums": list(SCALES)}
    expected = VqvaeConfig(
        vocab_size=32, z_channels=8, ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, patch_nums=SCALES
    )
    assert VqvaeConfig.model_validate(header.architecture) == expected
    net, _ = load_checkpoint(out)
    assert isinstance(net, Vqvae)
    with np.load(GOLDEN / "var_vae_small.npz") as data:
        images, tokens = torch.from_numpy(data["img"]), torch.from_numpy(data["tokens"])
        recon = torch.from_numpy(data["recon_last"])
    assert torch.equal(net.encode_tokens(images), tokens)
    torch.testing.assert_close(net.decode_tokens(tokens), recon, rtol=0, atol=1e-4)
    with pytest.raises(UserError, match="expected statistics"):
        load_statistics(out)


def test_scales_of_a_tokenizer(tmp_path: Path) -> None:
    state, _ = golden_state("var_vae_small")
    message = error(tmp_path, state)
    assert "has 4 scales" in message and "--patch-nums" in message
    state["quantize.ema_vocab_hit_SV"] = torch.zeros(10, 32)
    header = run(tmp_path, state)
    assert header.architecture["patch_nums"] == list(PATCH_NUMS_256)
    assert header.assumed["patch_nums"] == list(PATCH_NUMS_256)


def meta_state(config: VarConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(Var(config).state_dict())


@pytest.mark.parametrize(
    "config",
    [
        VarConfig(depth=1, attn_l2_norm=False, patch_nums=SCALES, vocab_size=7, z_channels=3),
        VarConfig(depth=2, shared_aln=True, patch_nums=SCALES, num_classes=4, mlp_ratio=2.0),
        VarConfig(depth=1, embed_dim=48, num_heads=6, patch_nums=(1, 3)),
        VarConfig(depth=2, embed_dim=8, num_heads=1, patch_nums=(2, 2, 3)),
    ],
)
def test_every_option_is_recognised(tmp_path: Path, config: VarConfig) -> None:
    state = Var.build(config, torch.Generator().manual_seed(0)).state_dict()
    told = {} if config.attn_l2_norm else {"num_heads": config.heads}
    found = VarConfig.model_validate(run(tmp_path, state, told=told).architecture)
    same = {"embed_dim": config.width, "num_heads": config.heads}
    assert found == config.model_copy(update=same)


def test_training_checkpoint(tmp_path: Path) -> None:
    var, vae = golden_state("var_var")[0], golden_state("var_vae_small")[0]
    trainer = {"var_wo_ddp": OrderedDict(var), "vae_local": vae, "var_opt": {"state": {}}}
    whole = {"epoch": 3, "iter": 0, "trainer": trainer, "args": {"depth": 2}}
    header = run(tmp_path, whole)
    assert header.kind == "var" and load_file(tmp_path / "x.safetensors").keys() == var.keys()
    assert header.dropped == ["epoch", "iter", "args", "trainer.vae_local", "trainer.var_opt"]
    header = run(tmp_path, whole, kind="vqvae")
    assert header.kind == "vqvae" and "trainer.var_wo_ddp" in header.dropped


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("pos_start is missing", {"pos_start": None}),
        ("'head.extra' is not part", {"head.extra": torch.zeros(1)}),
        ("head.bias has shape (3,)", {"head.bias": torch.zeros(3)}),
        ("word_embed.weight", {"word_embed.weight": None}),
        ("not enough values", {"word_embed.weight": torch.zeros(3)}),
        ("patch_nums", {"lvl_1L": torch.zeros(1, 30, dtype=torch.int64)}),
        ("scale of each token", {"lvl_1L": torch.full((1, 30), 10**15)}),
        ("scale of each token", {"lvl_1L": torch.zeros(1, 30)}),
        ("attn_bias_for_masking", {"attn_bias_for_masking": torch.zeros(1, 1, 29, 30)}),
        ("in a storage of 1 values", {"head.bias": torch.zeros(1).expand(32)}),
        ("has type torch.float64", {"head.bias": torch.zeros(32).double()}),
        ("'torch._utils._rebuild_sparse_tensor'", {"head.bias": torch.ones(32).to_sparse()}),
        ("'head.bias' is not a tensor", {"head.bias": [0.0] * 32}),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, expected: str, changes: dict[str, Any]) -> None:
    state = {**golden_state("var_var")[0], **changes}
    message = error(tmp_path, {k: v for k, v in state.items() if v is not None})
    assert expected in message


def test_shared_memory_is_no_obstacle(tmp_path: Path) -> None:
    state, _ = golden_state("var_var")
    state["blocks.0.attn.v_bias"] = state["blocks.0.attn.q_bias"]
    run(tmp_path, state)
    found = load_file(tmp_path / "x.safetensors")
    assert torch.equal(found["blocks.0.attn.v_bias"], state["blocks.0.attn.q_bias"])


def test_neither_transformer_nor_tokenizer(tmp_path: Path) -> None:
    assert "no VAR transformer or tokenizer (its first keys: a, b)" in error(
        tmp_path, {"a": torch.zeros(1), "b": 1}
    )
    assert "no vqvae weights" in error(tmp_path, golden_state("var_var")[0], kind="vqvae")
    assert "no VAR" in error(tmp_path, [torch.zeros(1)])
    assert "not edm2" in error(tmp_path, golden_state("var_var")[0], kind="edm2")


class Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_files_do_nothing(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "marker"
    state = golden_state("var_var")[0]
    for content in (Runs(f"touch {marker}"), {**state, "x": [Runs(f"touch {marker}")]}):
        source = save(tmp_path / "x.pth", content, _use_new_zipfile_serialization=zipped)
        with pytest.raises(UserError, match=r"the file names 'posix.system'"):
            import_weights(source, tmp_path / "x.safetensors")
        assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_whole_modules_are_refused(tmp_path: Path) -> None:
    net = Var.build(VarConfig(depth=1, patch_nums=(1, 2)), torch.Generator().manual_seed(0))
    assert "the file names 'mclr.models.var.network.Var'" in error(tmp_path, net)


def test_damaged_files(tmp_path: Path) -> None:
    good = save(tmp_path / "x.pth", golden_state("var_var")[0]).read_bytes()
    for content in (good[:1000], good[: len(good) // 2], good[:-30], b"PK\x03\x04", OLD_TORCH):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.pth: refused"):
            import_weights(tmp_path / "x.pth", tmp_path / "x.safetensors")
        assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_published_sizes_are_recognised_from_shapes_alone() -> None:
    """Names and shapes of the released transformers, without their values."""
    from mclr.checkpoints.fit import count_parameters
    from mclr.models.var.checkpoint import _transformer

    preset = VAR_PRESETS["var-d16"]
    state = meta_state(preset)
    found = VarConfig.model_validate(_transformer(state))  # the scale of each token is in full
    assert found == preset.model_copy(
        update={"embed_dim": 1024, "num_heads": 16, "drop_path_rate": 0.0}
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert count_parameters(lambda: Var(found), shapes, "x") == 310_283_520
