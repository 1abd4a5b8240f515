"""Back to the official tools: import, export, load with the official classes, same output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_edm2 import Official
from pickle_writer import pickled
from safetensors.torch import load_file
from torch import Tensor

from mclr.errors import UserError
from mclr.files import save_tensors
from mclr.weights.export import Exported, export_weights
from mclr.weights.header import load_checkpoint
from mclr.weights.importer import import_weights

GOLDEN = Path(__file__).parents[1] / "golden"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def finetuned(tmp_path: Path, metadata: dict[str, str] | None = None) -> tuple[Path, Any]:
    """Other weights of the golden network, in float32 as a run of ours leaves them."""
    state = load_file(GOLDEN / "edm2_net_after_train_forward.safetensors")
    path = tmp_path / "step-000010.safetensors"
    save_tensors(path, state, metadata or {"step": "10"})
    return path, state


def test_edm2_untouched_round_trip_is_the_same_file(tmp_path: Path, edm2_pickle: Path) -> None:
    import_weights(edm2_pickle, tmp_path / "net.safetensors")
    done = export_weights(tmp_path / "net.safetensors", tmp_path / "back.pkl", edm2_pickle)
    assert done == Exported("edm2", 181_595, "float16")
    assert (tmp_path / "back.pkl").read_bytes() == edm2_pickle.read_bytes()


def test_edm2_loads_with_the_official_classes(
    tmp_path: Path, edm2_pickle: Path, official: Official
) -> None:
    """The weights of a run of ours, in the official file, computed by the official loader."""
    weights, state = finetuned(tmp_path)
    export_weights(weights, tmp_path / "out.pkl", edm2_pickle)
    written = (tmp_path / "out.pkl").read_bytes()
    assert len(written) == edm2_pickle.stat().st_size
    said = official.read(
        tmp_path / "out.pkl", GOLDEN / "edm2_forward.npz", tmp_path / "official.safetensors"
    )
    assert said.split() == ["StandardRGBEncoder", "EDM2Loss", "-0.8"]
    theirs = load_file(tmp_path / "official.safetensors")
    output = theirs.pop("D")
    assert theirs.keys() == state.keys()
    assert all(torch.equal(theirs[name], state[name].half()) for name in state)
    # Imported again, our network gives the same output bit for bit.
    import_weights(tmp_path / "out.pkl", tmp_path / "again.safetensors")
    net, _ = load_checkpoint(tmp_path / "again.safetensors")
    with np.load(GOLDEN / "edm2_forward.npz") as data:
        x, sigma, labels = (torch.from_numpy(data[key]) for key in ("x", "sigma", "labels"))
    with torch.no_grad():
        assert torch.equal(net(x, sigma, labels), output)


def test_official_classes_give_the_golden_output(
    tmp_path: Path, edm2_pickle: Path, official: Official
) -> None:
    import_weights(edm2_pickle, tmp_path / "net.safetensors")
    export_weights(tmp_path / "net.safetensors", tmp_path / "back.pkl", edm2_pickle)
    official.read(tmp_path / "back.pkl", GOLDEN / "edm2_forward.npz", tmp_path / "o.safetensors")
    with np.load(GOLDEN / "edm2_forward.npz") as data:
        want = torch.from_numpy(data["D_halfstored_upcast"])
    found = load_file(tmp_path / "o.safetensors")["D"]
    torch.testing.assert_close(found, want, rtol=0, atol=2e-6 * want.abs().max().item())


def test_number_type_is_that_of_the_template(tmp_path: Path, official: Official) -> None:
    golden = GOLDEN / "edm2_gnet_uncond.safetensors"
    template = official.write(golden, tmp_path / "t.pkl", "StabilityVAEEncoder", "float32")
    state = {name: tensor * 1.5 for name, tensor in load_file(golden).items()}
    save_tensors(tmp_path / "w.safetensors", state, {})
    done = export_weights(tmp_path / "w.safetensors", tmp_path / "out.pkl", template)
    assert done.dtype == "float32"
    header = import_weights(tmp_path / "out.pkl", tmp_path / "again.safetensors")
    found = load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert header.encoder is not None and header.encoder["class"] == "StabilityVAEEncoder"


def refused(tmp_path: Path, weights: Path, like: Path | None) -> str:
    before = names(tmp_path)
    with pytest.raises(UserError) as caught:
        export_weights(weights, tmp_path / "out.pkl", like)
    assert names(tmp_path) == before
    return str(caught.value)


def test_what_does_not_belong_together(tmp_path: Path, edm2_pickle: Path) -> None:
    weights, state = finetuned(tmp_path)
    assert "name one with --like" in refused(tmp_path, weights, None)
    assert "no such file" in refused(tmp_path, weights, tmp_path / "absent.pkl")
    (tmp_path / "evil.pkl").write_bytes(pickled({"ema": {}}))
    assert "no EDM2 network" in refused(tmp_path, weights, tmp_path / "evil.pkl")
    other = tmp_path / "other.safetensors"

    def message(changes: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
        save_tensors(other, {**state, **changes}, metadata or {})
        return refused(tmp_path, other, edm2_pickle)

    assert "more is only in" in message({"more": torch.zeros(1)})
    assert "unet.out_gain has shape (2,)" in message({"unet.out_gain": torch.zeros(2)})
    assert "not finite in float16" in message({"unet.out_gain": torch.tensor(1e6)})
    assert "not finite in float16" in message({"unet.out_gain": torch.tensor(torch.nan)})
    for key, architecture in (("spec", {"network": {"res_balance": 0.5}}), ("header", None)):
        stated = architecture or {"architecture": {"res_balance": 0.5, "dropout": 0.1}}
        assert "res_balance is 0.5, but 0.3" in message({}, {key: json.dumps(stated)})


def test_dropout_may_differ(tmp_path: Path, edm2_pickle: Path) -> None:
    """Training only; and tuples, lists, 1 and 1.0 are the same."""
    network = {"dropout": 0.1, "resample_filter": [1, 1], "channel_mult": [1, 2], "family": "edm2"}
    weights, _ = finetuned(tmp_path, {"spec": json.dumps({"network": network})})
    assert export_weights(weights, tmp_path / "out.pkl", edm2_pickle).kind == "edm2"


def test_var_state_dict_is_official(tmp_path: Path) -> None:
    state = load_file(GOLDEN / "var_var.safetensors")
    torch.save(state, tmp_path / "var.pth")
    import_weights(tmp_path / "var.pth", tmp_path / "var.safetensors")
    done = export_weights(tmp_path / "var.safetensors", tmp_path / "back.pth")
    assert (done.kind, done.dtype) == ("var", "float32")
    found = torch.load(tmp_path / "back.pth", weights_only=True)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_tokenizer_keeps_its_number_type(tmp_path: Path) -> None:
    """Weights of the pipeline, which have no header, are recognised too."""
    state = load_file(GOLDEN / "var_vae_small.safetensors")
    save_tensors(tmp_path / "vae.safetensors", state, {"spec": json.dumps({"network": {}})})
    done = export_weights(tmp_path / "vae.safetensors", tmp_path / "vae.pth")
    assert (done.kind, done.dtype) == ("vqvae", "float16")
    found = torch.load(tmp_path / "vae.pth", weights_only=True)
    assert found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


def test_var_needs_no_template_and_all_tensors(tmp_path: Path) -> None:
    state = load_file(GOLDEN / "var_var.safetensors")
    weights = tmp_path / "var.safetensors"
    save_tensors(weights, state, {})
    assert "only EDM2 weights need a template" in refused(tmp_path, weights, tmp_path / "x.pkl")
    del state["pos_start"]
    save_tensors(weights, state, {})
    assert "pos_start is missing" in refused(tmp_path, weights, None)
    save_tensors(weights, {"x": torch.zeros(1)}, {})
    assert "no VAR transformer or tokenizer" in refused(tmp_path, weights, None)
