"""Folders of others in diffusers' layout: what is read of them, and what is refused in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_folders import dit_folder, images_of, loaded, model_of, unet_folder
from safetensors.torch import load_file, save_file
from tiny import TINY, Trained

from mclr.config.reading import parse_tier
from mclr.errors import UserError
from mclr.files import load_tensors, read_json
from mclr.jobs.take_over import import_base
from mclr.models.diffusers.architecture import Scheduler
from mclr.models.diffusers.checkpoint import pack_autoencoder
from mclr.models.diffusers.folder import (
    MAX_CONFIG_BYTES,
    find_folder,
    read_autoencoder,
    read_network,
)
from mclr.models.diffusers.network import make_scheduler
from mclr.new.given import recognise
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.settings.section import plain

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def dit(tmp_path: Path) -> Path:
    return dit_folder(tmp_path / "dit")


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def test_half_precision_becomes_float32(dit: Path) -> None:
    place = dit / "transformer" / WEIGHTS
    exact = load_file(place)
    save_file({name: value.half() for name, value in exact.items()}, place)
    net = loaded(dit)[1]
    for name, value in net.state_dict().items():
        assert torch.equal(value, exact[name].half().float())


def test_a_class_by_its_old_name(dit: Path) -> None:
    before = loaded(dit)[1].state_dict()
    more = {"num_vector_embeds": None, "attention_type": "default", "use_linear_projection": False}
    edit(dit / "transformer" / "config.json", _class_name="Transformer2DModel", **more)
    after = loaded(dit)[1].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"_class_name": "FluxTransformer2DModel"}, "a network of class 'FluxTransformer2DModel'"),
        ({"_class_name": ["x"]}, r"a network of class \['x'\]"),
        ({"num_layers": 10**9}, "dit.num_layers: Input should be less than"),
        ({"num_layers": "2; import os"}, "dit.num_layers: Input should be a valid integer"),
        ({"caption_channels": 512}, "setting caption_channels = 512, which is not known"),
        ({"norm_type": "ada_norm_single"}, "setting norm_type = 'ada_norm_single'"),
        ({"num_embeds_ada_norm": None}, "num_embeds_ada_norm = None; expected a count"),
        ({"out_channels": 5}, "5 channels out, 4 in"),
        ({"kind": "unet"}, "setting kind = 'unet', which is not known"),
    ],
)
def test_what_a_network_may_not_say(dit: Path, changes: dict[str, Any], text: str) -> None:
    edit(dit / "transformer" / "config.json", **changes)
    with pytest.raises(UserError, match=text):
        model_of(dit).architecture()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a mapping"),
        (" " * (MAX_CONFIG_BYTES + 1), "larger than any configuration"),
    ],
)
def test_damaged_configurations(dit: Path, content: str, text: str) -> None:
    (dit / "scheduler" / "scheduler_config.json").write_text(content)
    with pytest.raises(UserError, match=text):
        model_of(dit).architecture()


def test_sizes_are_those_of_the_file(dit: Path) -> None:
    """A configuration of far larger weights than there are is refused before any are made."""
    edit(dit / "transformer" / "config.json", attention_head_dim=60_000)
    for read in (loaded, recognise):
        with pytest.raises(UserError, match="too small for the"):
            read(dit)  # type: ignore[operator]
    (dit / "transformer" / "config.json").unlink()
    with pytest.raises(UserError, match=r"neither transformer/config\.json nor unet/config\.json"):
        loaded(dit)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda tensors: tensors.pop("proj_out_2.bias"), r"do not fit \(missing: proj_out_2.bias"),
        (lambda tensors: tensors.update(more=torch.ones(1)), r"do not fit \(unexpected: more"),
        (
            lambda tensors: tensors.update({"proj_out_2.bias": torch.full((32,), torch.nan)}),
            "values that are not finite",
        ),
        (lambda tensors: tensors.update({"proj_out_2.bias": torch.ones(3)}), "cannot be read"),
    ],
)
def test_weights_that_do_not_fit(dit: Path, change: Any, text: str) -> None:
    place = dit / "transformer" / WEIGHTS
    tensors = load_file(place)
    change(tensors)
    save_file(tensors, place)
    with pytest.raises(UserError, match=text):
        loaded(dit)


def test_pickles_are_not_read(dit: Path) -> None:
    (dit / "transformer" / WEIGHTS).rename(dit / "transformer" / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"only diffusion_pytorch_model.bin, a pickle, which is"):
        loaded(dit)


def test_another_network_than_configured(dit: Path) -> None:
    network, scheduler = (plain(part) for part in model_of(dit).parts)
    told = {"scheduler": scheduler, "autoencoder": {"released": str(dit)}}
    loaded(dit, network=network | {"dropout": 0.1}, **told)  # has no weights
    for key, value in {"num_attention_heads": 4, "norm_eps": 0.1}.items():
        with pytest.raises(UserError, match=f"another network .*: {key}"):
            loaded(dit, network=network | {key: value}, **told)
    with pytest.raises(UserError, match=r"labels 1[0-9] \(in the file 10\)"):
        loaded(dit, images_of(12))


@pytest.mark.parametrize(
    "changes",
    [
        {"block_out_channels": [8, 10**6]},
        {"block_out_channels": [8] * 40},
        {"layers_per_block": 10**6},
        {"block_out_channels": "8"},
        {"_class_name": "AutoencoderTiny"},
        {"down_block_types": ["os.system"] * 2},
    ],
)
def test_impossible_autoencoders(dit: Path, changes: dict[str, Any]) -> None:
    edit(dit / "vae" / "config.json", **changes)
    with pytest.raises(UserError, match=r"vae.*choose another model, or copy its folder again"):
        pack_autoencoder(dit, dit / "packed.safetensors")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("scaling_factor", value) for value in ("0.18", math.nan, 0, -1, True, None)],
        ("shift_factor", 0.1),
        ("latents_mean", [0.1] * 4),
    ],
)
def test_latents_are_scaled_by_one_number_alone(dit: Path, key: str, value: Any) -> None:
    edit(dit / "vae" / "config.json", **{key: value})
    with pytest.raises(UserError, match=f"vae.config.json: {key} = .*choose another model"):
        pack_autoencoder(dit, dit / "packed.safetensors")
    with pytest.raises(UserError, match=f"vae.config.json: {key} = .*choose another model"):
        read_autoencoder(dit)


@pytest.mark.parametrize("value", [[[8], [8]], [{}], [], [8, 4], "8"])
def test_sides_of_no_square_are_refused(dit: Path, value: Any) -> None:
    edit(dit / "transformer" / "config.json", sample_size=value)
    with pytest.raises(UserError, match=r"sample_size = .*; expected a count"):
        read_network(dit)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"name": "DDIMScheduler", "use_flow_sigmas": True}, "go together"),
        ({"name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "supported"),
        ({"name": "FlowMatchEulerDiscreteScheduler", "prediction_type": "epsilon"}, "has none"),
        ({"name": "HeunDiscreteScheduler"}, "Input should be"),
        ({"name": "DDIMScheduler", "num_train_timesteps": 10**9}, "less than or equal"),
    ],
)
def test_impossible_schedulers(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Scheduler.model_validate(settings)


def test_settings_that_diffusers_refuses() -> None:
    wrong = Scheduler.model_validate({"name": "DDIMScheduler", "beta_schedule": "none"})
    with pytest.raises(UserError, match="scheduler: DDIMScheduler: none"):
        make_scheduler(wrong)


def test_an_id_of_the_hub_is_looked_up_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `hf download` leaves it, without asking anybody."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", None)
    model, commit = tmp_path / "models--someone--their-dit", "a" * 40
    dit_folder(model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    wanted = model / "snapshots" / commit
    assert find_folder("someone/their-dit") == find_folder(f"someone/their-dit@{commit}") == wanted
    for name in ("someone/other", "someone/their-dit@v2", "nowhere"):
        with pytest.raises(UserError, match="no such folder, and no such model in the local cache"):
            find_folder(name)
    released = model_of(Path("someone/their-dit")).releases
    assert released["base"].released == str(wanted / "transformer" / WEIGHTS)


def test_a_network_that_others_tuned_is_a_row(trained: Trained, tmp_path: Path) -> None:
    """``runs: {theirs: {released: FOLDER}}``: taken over as the base is."""
    base, theirs = unet_folder(tmp_path / "base"), unet_folder(tmp_path / "theirs")
    model = {"family": "diffusers", "label": "U-Net", "base": {"released": str(base)}}
    model |= {"noise": {"P_mean": 0, "P_std": 1}, "guidance": [1]}
    model |= {"sampler": {"kind": "scheduler", "num_steps": 2}}
    row = {"model": "net", "method": "ddo", "released": str(theirs)}
    plan = Plan(parse_tier(TINY | {"models": {"net": model}, "runs": {"theirs": row}}, "tiny"))
    job = Jobs(plan).take_over("theirs")
    (source,) = job.inputs["source"]
    import_base(plan.taken_spec("theirs"), trained.manifest, Path(source), None, tmp_path / "run")
    made = load_tensors(tmp_path / "run" / "checkpoints" / "step-000000.safetensors")[0]
    wanted = load_file(theirs / "unet" / WEIGHTS)
    assert all(torch.equal(value, made[name]) for name, value in wanted.items())
    assert read_json(tmp_path / "run" / "provenance.json")["source"] == {"file": WEIGHTS}
