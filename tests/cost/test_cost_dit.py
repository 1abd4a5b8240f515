"""The tier of DiT-XL/2, planned without its weights: shapes as published, work by hand."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, cast

import diffusers
import pytest
import torch
from click.testing import CliRunner
from diffusers import DiTTransformer2DModel
from diffusers_folders import dit_folder, unet_folder

from mclr.commands.plan import plan as command
from mclr.config.reading import load_tier
from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.models.costs import cost_of
from mclr.models.diffusers.config import DiffusersModel
from mclr.models.diffusers.folder import Drawn, parse_network
from mclr.models.diffusers.network import build

CONFIG = Path(__file__).resolve().parents[2] / "config" / "imagenet-dit.yaml"
# transformer/config.json of facebook/DiT-XL-2-256, from before the class had its present name.
FACEBOOK: dict[str, Any] = {
    "_class_name": "Transformer2DModel",
    "_diffusers_version": "0.12.0.dev0",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 72,
    "cross_attention_dim": None,
    "dropout": 0.0,
    "in_channels": 4,
    "norm_elementwise_affine": False,
    "norm_num_groups": 32,
    "norm_type": "ada_norm_zero",
    "num_attention_heads": 16,
    "num_embeds_ada_norm": 1000,
    "num_layers": 28,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "out_channels": 8,
    "patch_size": 2,
    "sample_size": 32,
    "upcast_attention": False,
    "use_linear_projection": False,
}
IMAGENET = Manifest(3, 256, 1000, (), {})


@pytest.fixture(scope="module")
def model() -> DiffusersModel:
    return cast(DiffusersModel, load_tier(CONFIG).models["dit-xl-2"])


def shapes(net: Any) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}


def test_the_network_is_the_published_one(model: DiffusersModel, tmp_path: Path) -> None:
    """Names and shapes of diffusers' own class on the meta device, with the published settings."""
    (tmp_path / "config.json").write_text(json.dumps(FACEBOOK))
    network, drawn = parse_network(tmp_path / "config.json")
    assert network == model.network and drawn == Drawn(4, 32, 1000)
    known = inspect.signature(DiTTransformer2DModel.__init__).parameters
    settings = {key: value for key, value in FACEBOOK.items() if key in known}
    with torch.device("meta"):
        theirs = cast(Any, DiTTransformer2DModel)(**settings)
        ours = build(network, drawn, torch.Generator().manual_seed(0))
    assert shapes(ours) == shapes(theirs)


def test_its_parameters_and_multiply_adds(model: DiffusersModel) -> None:
    """118.6 G multiply-adds (DiT, Table 4); diffusers has an embedder of its own in each block."""
    cost = cost_of(model, IMAGENET)
    width, labels = 1152, 1001
    embedder = 256 * width + width + width**2 + width + labels * width
    block = 4 * (width**2 + width) + 2 * 4 * width**2 + 5 * width + 6 * (width**2 + width)
    ends = 16 * width + width + 2 * (width**2 + width) + 32 * width + 32
    assert cost.parameters == 28 * (block + embedder) + ends
    assert cost.evaluation == pytest.approx(118.6e9, rel=0.01)
    assert cost.generation == 50 * cost.evaluation
    assert cost.shape == (8, 32, 32)  # means and deviations
    assert cost.coder.parameters == 83_653_863  # AutoencoderKL of Stable Diffusion
    assert cost.narrower().parameters < cost.parameters / 5


def test_its_plan(model: DiffusersModel) -> None:
    """As of `mclr plan`, with neither ImageNet nor the folder at hand.

    A step of MCLR evaluates and differentiates 5 rows, CCDPO compares with the base as well.
    """
    done = CliRunner().invoke(command, [str(CONFIG), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    rules = {rule: row["jobs"] for rule, row in found["rules"].items()}
    assert rules["import_base"] == rules["import_tokenizer"] == rules["encode"] == 1
    assert rules["finetune"] == 6 and "tokenizer" not in rules and "base" not in rules
    tuned = found["rules"]["finetune"]["multiply_adds"]["half"]
    step = 3 * (3 * 5) + 3 * (3 * 5 + 5)
    assert tuned == 800 * 256 * step * cost_of(model, IMAGENET).evaluation
    assert {row["kind"] for row in found["memory"]} == {"fine-tuning, 5 rows", "sampling"}


@pytest.mark.parametrize("write", [dit_folder, unet_folder])
def test_what_a_folder_says_is_planned(write: Any, tmp_path: Path) -> None:
    folder = write(tmp_path)
    told = {"family": "diffusers", "label": "x", "base": {"released": str(folder)}}
    told |= {"noise": {"P_mean": 0, "P_std": 1}, "guidance": []}
    told |= {"sampler": {"num_steps": 3, "sigma_min": 0.1, "sigma_max": 9, "rho": 7}}
    model = DiffusersModel.model_validate(told)
    cost = cost_of(model, Manifest(1, 8, 10, (), {}))
    part = "transformer" if write is dit_folder else "unet"
    cls = getattr(diffusers, "DiTTransformer2DModel" if write is dit_folder else "UNet2DModel")
    net = cls.from_pretrained(folder / part)
    assert cost.parameters == sum(value.numel() for value in net.state_dict().values())
    assert cost.generation == 5 * cost.evaluation > 0
    assert (cost.coder.decode > 0) == (write is dit_folder)
    assert model.nfe_of(True, (0.05, 20)) == 10 and model.nfe_of(True, (100, 200)) == 5


def test_an_interval_needs_levels(model: DiffusersModel) -> None:
    assert "interval" not in model.guided_by
    with pytest.raises(UserError, match="NFE of an interval"):
        model.nfe_of(True, (0.1, 1))
