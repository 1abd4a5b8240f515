"""Official EDM2 pickles: bit for bit, with their architecture, and the recorded output."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_edm2 import Official
from pickle_writer import Call, New, persistent, pickled, rebuilt, storage
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from mclr.errors import UserError
from mclr.files import read_json, save_tensors, sha256
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import Precond, build
from mclr.weights.header import Header, header_path, load_checkpoint, read_checkpoint
from mclr.weights.importer import import_weights

GOLDEN = Path(__file__).parents[1] / "golden"
MODULES = "torch.nn.modules.container ModuleDict"
OLD_NUMPY = b"numpy.core.multiarray"
SIZES = {"img_resolution": 8, "img_channels": 1, "label_dim": 2}
TINY = {"model_channels": 4, "channel_mult": [1], "num_blocks": 1, "logvar_channels": 4}


def golden_config(name: str) -> dict[str, Any]:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        config: dict[str, Any] = json.loads(file.metadata()["config"])
    return config


def golden_outputs() -> dict[str, Tensor]:
    with np.load(GOLDEN / "edm2_forward.npz") as data:
        names = ("x", "sigma", "labels", "D_halfstored_upcast", "logvar_halfstored_upcast", "D")
        return {name: torch.from_numpy(data[name]) for name in names}


@pytest.fixture(scope="module")
def imported(edm2_pickle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "net.safetensors"
    import_weights(edm2_pickle, out)
    return out


def test_tensors_are_the_stored_ones(imported: Path) -> None:
    golden, found = load_file(GOLDEN / "edm2_net.safetensors"), load_file(imported)
    assert found.keys() == golden.keys()
    for name, tensor in found.items():
        assert tensor.dtype == torch.float16 and torch.equal(tensor, golden[name].half())


def test_golden_output_of_imported_half_precision(imported: Path) -> None:
    net, header = load_checkpoint(imported)
    assert header.kind == "edm2" and not net.training
    assert {tensor.dtype for tensor in net.state_dict().values()} == {torch.float32}
    want = golden_outputs()
    x, sigma, labels = want["x"], want["sigma"], want["labels"]
    denoised, logvar = net(x, sigma, labels, return_logvar=True)
    for found, name in ((denoised, "D"), (logvar, "logvar")):
        expected = want[f"{name}_halfstored_upcast"]
        bound = 2e-6 * expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=0, atol=bound)
    # What float16 storage costs against the float32 network (docs/checkpoints.md).
    assert 7e-4 < (denoised - want["D"]).abs().max() < 9e-4


def test_header(imported: Path, edm2_pickle: Path) -> None:
    header = read_json(header_path(imported))
    config = golden_config("edm2_net")
    for key in config.keys() - {"class_name", "use_fp16"}:
        assert header["architecture"][key] == config[key]
    assert header["source"] == {
        "file": "edm2_net.pkl",
        "bytes": edm2_pickle.stat().st_size,
        "sha256": sha256(edm2_pickle),
    }
    assert header["stored_dtype"] == "float16"
    net = Precond(Edm2Network(**header["architecture"]))
    assert header["parameters"] == sum(p.numel() for p in net.parameters())
    assert header["encoder"] == {"class": "StandardRGBEncoder"}
    assert header["training"] == {"P_mean": -0.8, "P_std": 1.6, "sigma_data": 0.5}
    assert header["dropped"][-2:] == ["dataset_kwargs", "loss_fn (EDM2Loss)"]
    assert all("source text, sha256" in text for text in header["dropped"][:-2])
    # The safetensors file stands alone.
    assert read_checkpoint(imported)[1] == Header.model_validate(header)


def test_import_twice_gives_the_same_bytes(imported: Path, edm2_pickle: Path) -> None:
    before = imported.read_bytes(), header_path(imported).read_bytes()
    import_weights(edm2_pickle, imported, "edm2")
    assert before == (imported.read_bytes(), header_path(imported).read_bytes())


def test_latent_encoder_and_older_torch(official: Official, tmp_path: Path) -> None:
    """A file with numpy constants under their old name, float32 tensors and ordered tables."""
    golden = GOLDEN / "edm2_gnet_uncond.safetensors"
    source = tmp_path / "n.pkl"
    official.write(golden, source, "StabilityVAEEncoder", "float32", ordered=True)
    new, old = (b"\x8c" + bytes([len(n)]) + n for n in (b"numpy._core.multiarray", OLD_NUMPY))
    assert new in source.read_bytes()
    source.write_bytes(source.read_bytes().replace(new, old))
    out = tmp_path / "n.safetensors"
    header = import_weights(source, out)
    found, want = load_file(out), load_file(golden)
    assert found.keys() == want.keys() and all(torch.equal(found[k], want[k]) for k in want)
    assert (header.stored_dtype, header.architecture["label_dim"]) == ("float32", 0)
    assert header.encoder is not None
    assert header.encoder["class"] == "StabilityVAEEncoder"
    assert header.encoder["vae_name"] == "stabilityai/sd-vae-ft-mse"
    with np.load(GOLDEN / "edm2_encoders.npz") as data:
        for key in ("scale", "bias"):
            np.testing.assert_array_equal(np.float32(header.encoder[key]), data[f"vae_{key}"])


# --- files put together by hand -----------------------------------------------------------------


def module(class_name: str, tensors: dict[str, Any], children: dict[str, Any], **more: Any) -> Any:
    state = {"_parameters": tensors, "_buffers": {}, "_modules": children, **more}
    return persistent(class_name, state)


def tree(tensors: dict[str, Tensor], name: str = "Precond", **more: Any) -> Any:
    """A network of persistent modules from a flat state dict."""
    here = {key: value for key, value in tensors.items() if "." not in key}
    parts = dict.fromkeys(key.split(".")[0] for key in tensors if "." in key)
    children = {}
    for part in parts:
        inner = {
            k.removeprefix(part + "."): v for k, v in tensors.items() if k.startswith(part + ".")
        }
        children[part] = tree(inner, "MPConv")
    stored = {
        key: rebuilt(storage(value), 0, tuple(value.shape), value.stride())
        for key, value in here.items()
    }
    return module(name, stored, children, **more)


def file_with(changes: dict[str, Any] | None = None, encoder: Any = None, **more: Any) -> bytes:
    """A minimal official pickle; ``changes`` to its tensors, ``more`` to the network's state."""
    net = build(Edm2Network(**SIZES, **TINY), torch.Generator().manual_seed(0)).half()
    tensors = {**net.state_dict(), **(changes or {})}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    state = {"_init_kwargs": {**SIZES, **TINY}, "_init_args": (), **more}
    return pickled({"encoder": encoder, "ema": tree(kept, **state)})


def read(tmp_path: Path, content: bytes, **options: Any) -> Header:
    (tmp_path / "x.pkl").write_bytes(content)
    return import_weights(tmp_path / "x.pkl", tmp_path / "x.safetensors", **options)


def error(tmp_path: Path, content: bytes, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, content, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]
    return str(caught.value)


def test_minimal_file_and_positional_arguments(tmp_path: Path) -> None:
    header = read(tmp_path, file_with())
    assert (
        header.encoder is None and header.training == {} and header.dropped[0].startswith("class")
    )
    positional = {"_init_args": (8, 1, 2, True), "_init_kwargs": TINY}
    assert read(tmp_path, file_with(**positional)).architecture == header.architecture


@pytest.mark.parametrize(
    ("expected", "changes", "state"),
    [
        ("out_gain is missing", {"unet.out_gain": None}, {}),
        ("'unet.more' is not part", {"unet.more": torch.zeros(2).half()}, {}),
        ("shape (3,) instead of ()", {"unet.out_gain": torch.zeros(3).half()}, {}),
        ("contradicts", {}, {"sigma_data": 0.7}),
        ("contradicts", {}, {"img_resolution": Call("collections OrderedDict", ())}),
        ("unknown argument 'widen'", {}, {"_init_kwargs": {**SIZES, **TINY, "widen": 2}}),
        ("img_channels", {}, {"_init_kwargs": {"img_resolution": 8, "label_dim": 2, **TINY}}),
        ("num_blocks", {}, {"_init_kwargs": {**SIZES, **TINY, "num_blocks": -1}}),
        ("expected at most", {}, {"_init_kwargs": {**SIZES, **TINY, "num_blocks": 10**9}}),
        ("missing", {}, {"_init_kwargs": {**SIZES, **TINY, "num_blocks": 2}}),
        ("instead of", {}, {"_init_kwargs": {**SIZES, **TINY, "model_channels": 10**30}}),
        ("_init_kwargs", {}, {"_init_kwargs": None}),
        ("table of tensors", {}, {"_buffers": [1]}),
        ("is not a tensor", {}, {"_buffers": {"x": 1.5}}),
        ("is not a module", {}, {"_modules": {"unet": 5}}),
        (
            "is not a module",
            {},
            {"_modules": {"unet": New(MODULES)}},
        ),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, expected: str, changes: dict[str, Any], state: dict[str, Any]
) -> None:
    if expected == "instead of":
        expected = "impossible architecture"
    assert expected in error(tmp_path, file_with(changes, **state))


def test_another_network_or_encoder(tmp_path: Path) -> None:
    assert "found ['net', 'G_ema']" in error(tmp_path, pickled({"net": 1, "G_ema": 2}), kind="edm2")
    other = pickled({"ema": persistent("EDMPrecond", {})})
    assert "no EDM2 network under the key 'ema'" in error(tmp_path, other)
    assert "no statistics" in error(tmp_path, pickled({"net": 1}))
    assert "not a dictionary but a list" in error(tmp_path, pickled([1]))
    for encoder, name in ((persistent("MyEncoder", {}), "MyEncoder"), ("x", "str")):
        assert f"unknown encoder '{name}'" in error(tmp_path, file_with(encoder=encoder))
    for state in ({}, {"vae_name": "x", "scale": [{"a": 1}]}):
        encoder = persistent("StabilityVAEEncoder", state)
        assert "of its StabilityVAEEncoder is missing" in error(
            tmp_path, file_with(encoder=encoder)
        )


def test_digest_comes_first(tmp_path: Path) -> None:
    content = b"not even a pickle"
    message = error(tmp_path, content, expected_sha256="0" * 64)
    assert "it was not read" in message and sha256(tmp_path / "x.pkl") in message
    good = file_with()
    digest = error(tmp_path, good, expected_sha256="1" * 64).split(" is ")[1][:64]
    assert read(tmp_path, good, expected_sha256=f" {digest.upper()} ").kind == "edm2"


def test_names_and_kinds(tmp_path: Path) -> None:
    assert "a file of kind edm2, not var" in error(tmp_path, file_with(), kind="var")
    assert "choose one of: edm2, var" in error(tmp_path, file_with(), kind="gan")
    source = tmp_path / "x.pkl"
    with pytest.raises(UserError, match=r"ends with \.safetensors"):
        import_weights(source, tmp_path / "out.pkl")
    with pytest.raises(UserError, match="no such file"):
        import_weights(tmp_path / "absent.pkl", tmp_path / "out.safetensors")
    with pytest.raises(UserError, match="no such file"):
        import_weights(tmp_path, tmp_path / "out.safetensors")


def test_loading_what_was_not_imported(tmp_path: Path) -> None:
    plain = tmp_path / "plain.safetensors"
    save_tensors(plain, {"x": torch.zeros(1)}, {"step": "1"})
    with pytest.raises(UserError, match="mclr import-weights"):
        load_checkpoint(plain)
    read(tmp_path, file_with())
    tensors, header = read_checkpoint(tmp_path / "x.safetensors")
    content = header.model_dump(mode="json")
    content["architecture"]["num_blocks"] = 0
    save_tensors(plain, tensors, {"header": json.dumps(content)})
    with pytest.raises(UserError, match="impossible architecture"):
        load_checkpoint(plain)
    tensors.pop("unet.out_gain")
    save_tensors(plain, tensors, {"header": header.model_dump_json()})
    with pytest.raises(UserError, match="out_gain"):
        load_checkpoint(plain)


def test_pickle_of_plain_python(tmp_path: Path) -> None:
    """Plain values need no official class to be read, and are not a network."""
    assert "no statistics" in error(tmp_path, pickle.dumps({"a": [1, 2.5, None, {"b"}]}, 4))
