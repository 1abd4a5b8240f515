"""VAR's options: read from the file, or said, or refused; against the official classes' numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_import_var import error, golden_state, run, save

from mclr.errors import UserError
from mclr.models.var.config import VqvaeArchitecture
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae
from mclr.settings.section import plain
from mclr.weights.export import export_weights
from mclr.weights.header import load_checkpoint
from mclr.weights.importer import import_weights

GOLDEN = Path(__file__).parents[1] / "golden"
SCALES = (1, 2, 3, 4)


def recorded(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as data:
        return {key: torch.from_numpy(data[key]) for key in data.files if key != "meta_json"}


@pytest.mark.parametrize(
    ("name", "share", "side", "told"),
    [
        ("share0", 4, 3, {}),
        ("share1", 1, 1, {}),
        ("znorm", 4, 3, {"using_znorm": "true"}),
    ],
)
def test_tokenizers(tmp_path: Path, name: str, share: int, side: int, told: Any) -> None:
    state, _ = golden_state(f"var_vae_{name}")
    header = run(tmp_path, state, told={"patch_nums": SCALES, **told})
    assert header.architecture["share_quant_resi"] == share
    assert header.architecture.get("quant_conv_ks", 3) == side
    assert header.assumed["using_znorm"] is (name == "znorm")
    renamed = [] if name == "znorm" else [f"share_quant_resi {name[-1]}"]
    assert [what.split(":")[0] for what in header.undone] == renamed
    net, _ = load_checkpoint(tmp_path / "x.safetensors")
    assert isinstance(net, Vqvae)
    want = recorded(f"var_vae_{name}")
    assert torch.equal(net.encode_tokens(want["img"]), want["tokens"])
    inputs = net.tokens_to_input(want["tokens"])
    torch.testing.assert_close(inputs, want["var_input"], rtol=0, atol=1e-4)
    images = net.decode_tokens(want["tokens"])
    torch.testing.assert_close(images, want["recon"], rtol=0, atol=1e-4)


def test_angles_are_not_distances(tmp_path: Path) -> None:
    """Without the option most tokens are others, so an import says what it assumed."""
    header = run(tmp_path, golden_state("var_vae_znorm")[0], told={"patch_nums": SCALES})
    assert header.assumed["using_znorm"] is False
    net, _ = load_checkpoint(tmp_path / "x.safetensors")
    want = recorded("var_vae_znorm")
    assert (net.encode_tokens(want["img"]) != want["tokens"]).float().mean() > 0.5  # type: ignore[operator]


@pytest.mark.parametrize("name", ["share0", "share1", "znorm"])
def test_exported_names_are_the_official_ones(tmp_path: Path, name: str) -> None:
    """With phis for each scale those of shared ones, of which there are as many."""
    state, _ = golden_state(f"var_vae_{name}")
    run(tmp_path, state, told={"patch_nums": SCALES})
    export_weights(tmp_path / "x.safetensors", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    if name == "share0":
        state = {k.replace("quant_resi.", "quant_resi.qresi_ls."): v for k, v in state.items()}
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)


def test_specifications_do_not_name_options_that_are_as_released() -> None:
    usual = plain(VqvaeArchitecture())
    assert not {"using_znorm", "quant_conv_ks"} & usual.keys()
    other = VqvaeArchitecture(using_znorm=True, quant_conv_ks=1)
    assert plain(other) == usual | {"using_znorm": True, "quant_conv_ks": 1}
    assert VqvaeArchitecture.model_validate(plain(other)) == other


def test_transformer_without_unit_queries(tmp_path: Path) -> None:
    state, config = golden_state("var_var_noqknorm")
    message = error(tmp_path, state, told={"norm_eps": "1e-5"})
    assert "--assume num_heads=N" in message
    told = {"num_heads": "4", "norm_eps": "1e-5"}
    header = run(tmp_path, state, told=told)
    assert header.assumed == {"drop_path_rate": 0.0, "norm_eps": 1e-5, "num_heads": 4}
    assert header.architecture["attn_l2_norm"] is config["attn_l2_norm"] is False
    net, _ = load_checkpoint(tmp_path / "x.safetensors")
    assert isinstance(net, Var)
    want = recorded("var_var_noqknorm")
    logits = net(want["labels"], want["x_wo_first"])
    torch.testing.assert_close(logits, want["logits"], rtol=0, atol=1e-4)
    export_weights(tmp_path / "x.safetensors", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_what_the_file_tells_is_not_overruled(tmp_path: Path) -> None:
    state, _ = golden_state("var_var")
    assert "num_heads is 3 in it, not 4" in error(tmp_path, state, told={"num_heads": "4"})
    assert "patch_nums is (1, 2, 3, 4)" in error(tmp_path, state, told={"patch_nums": (1, 2, 3, 9)})
    assert "may be said of them: num_heads, norm_eps" in error(tmp_path, state, told={"x": "1"})
    assert "impossible architecture (norm_eps" in error(tmp_path, state, told={"norm_eps": "x"})
    codes, _ = golden_state("var_vae_share1")
    told = {"patch_nums": SCALES, "share_quant_resi": "4"}
    assert "share_quant_resi is 1 in it, not 4" in error(tmp_path, codes, told=told)


def trainer(**more: Any) -> dict[str, Any]:
    return {"trainer": {"vae_local": golden_state("var_vae_small")[0], **more}}


def test_a_training_checkpoint_tells_its_grids(tmp_path: Path) -> None:
    whole = trainer(config={"patch_nums": SCALES, "prog_it": 0})
    header = run(tmp_path, whole, kind="vqvae")
    assert header.architecture["patch_nums"] == list(SCALES)
    assert "patch_nums" not in header.assumed
    beside = run(tmp_path, trainer(var_wo_ddp=golden_state("var_var")[0]), kind="vqvae")
    assert beside.architecture["patch_nums"] == list(SCALES)
    (tmp_path / "x.safetensors").unlink()
    (tmp_path / "x.json").unlink()
    told = {"patch_nums": (1, 2, 3, 9)}
    message = error(tmp_path, whole, kind="vqvae", told=told)
    assert "patch_nums is (1, 2, 3, 4) in it, not (1, 2, 3, 9)" in message
    odd = trainer(config={"patch_nums": [1, 2, 5, 6]}, var_wo_ddp=golden_state("var_var")[0])
    assert "trainer.config has patch_nums (1, 2, 5, 6)" in error(tmp_path, odd)


def test_grids_that_are_said_are_listed(tmp_path: Path) -> None:
    """A state dict alone does not tell them: what was said is on record."""
    state, _ = golden_state("var_vae_small")
    header = run(tmp_path, state, told={"patch_nums": (1, 2, 3, 9)})
    assert header.assumed["patch_nums"] == [1, 2, 3, 9]


# --- places and prefixes ------------------------------------------------------------------------


def prefixed(prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in golden_state("var_var")[0].items()}


def compiled() -> dict[str, Any]:
    return {
        name.replace("blocks.0.", "blocks.0._orig_mod."): tensor
        for name, tensor in golden_state("var_var")[0].items()
    }


@pytest.mark.parametrize(
    ("content", "undone"),
    [
        (prefixed("module."), ["names without their prefix 'module.'"]),
        (prefixed("_orig_mod."), ["names without those of wrappers (torch.compile, …)"]),
        (
            prefixed("module._orig_mod."),
            [
                "names without their prefix 'module.'",
                "names without those of wrappers (torch.compile, …)",
            ],
        ),
        (compiled(), ["names without those of wrappers (torch.compile, …)"]),
        ({"model": prefixed("")}, ["taken from model"]),
        ({"epoch": 3, "state_dict": prefixed("")}, ["taken from state_dict"]),
        (
            {"ema": prefixed("module."), "optimizer": {}},
            ["taken from ema", "names without their prefix 'module.'"],
        ),
    ],
)
def test_weights_under_other_names(tmp_path: Path, content: Any, undone: list[str]) -> None:
    header = run(tmp_path, content)
    assert header.undone == undone
    assert json.loads((tmp_path / "x.json").read_text())["undone"] == undone
    state = golden_state("var_var")[0]
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


def test_what_is_ambiguous_is_refused(tmp_path: Path) -> None:
    two = {"model": prefixed(""), "ema": prefixed("")}
    assert "2 state dicts of var in it (model, ema)" in error(tmp_path, two)
    twice = prefixed("") | {"head._orig_mod.bias": torch.zeros(32)}
    assert "head.bias is there twice" in error(tmp_path, twice)
    same = {"model": prefixed("")}
    run(tmp_path, same | {"again": same["model"]})  # one object under two names is one


def test_safetensors_of_others(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = prefixed("module.")
    save_file(state, tmp_path / "theirs.safetensors")
    out = tmp_path / "x.safetensors"
    header = import_weights(tmp_path / "theirs.safetensors", out)
    assert header.kind == "var" and header.undone == ["names without their prefix 'module.'"]
    with pytest.raises(UserError, match="is a file of this pipeline already"):
        import_weights(out, tmp_path / "y.safetensors")
    with pytest.raises(UserError, match="EDM2 weights without the network's architecture"):
        import_weights(GOLDEN / "edm2_net.safetensors", tmp_path / "y.safetensors")
    with pytest.raises(UserError, match="not edm2"):
        import_weights(tmp_path / "theirs.safetensors", tmp_path / "y.safetensors", "edm2")


def test_only_of_var_weights_more_is_said(tmp_path: Path, edm2_pickle: Path) -> None:
    with pytest.raises(UserError, match=r"only of VAR weights more can be said \(norm_eps\)"):
        import_weights(edm2_pickle, tmp_path / "x.safetensors", told={"norm_eps": "1"})


def test_the_file_itself_is_not_a_state_dict(tmp_path: Path) -> None:
    source = save(tmp_path / "x.pth", {"deep": {"deep": {"deep": {"deep": {"deep": {}}}}}})
    with pytest.raises(UserError, match="no VAR transformer or tokenizer"):
        import_weights(source, tmp_path / "x.safetensors")
