"""Published recipes: what they say, against their authors' own words and code."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import torch
import yaml

from mclr.config.objectives import FineTuning
from mclr.config.reading import json_schema, parse_tier
from mclr.config.recipes import RECIPES, family_of, fitting
from mclr.errors import UserError
from mclr.models.var.config import VarConfig
from mclr.models.var.family import NO_DECAY, VarFamily
from mclr.models.var.network import Var
from mclr.planning.plan import Plan
from mclr.settings.section import canonical
from mclr.training.optimizer import make_optimizer
from mclr.training.trainee import DECAYS

IMAGENET = 1_281_167
ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "presets.md"
OWN = {"objective": {"name": "mclr"}, "checkpoints": [10]}
"""What a recipe that trains no objective of ours leaves to the run."""


def run(recipe: str, **own: Any) -> FineTuning:
    return FineTuning.model_validate({"model": "m", "recipe": recipe, **own})


# ------------------------------------------------------------------ thu-ml/CCA


def rate_of_var(step: int, steps: int, end: float) -> float:
    """VAR's schedule ``lin0``, written from its description: 2 % of warm-up from 0.005, 5 % of the
    rest at the full rate, a line to ``end`` at the last step."""
    warm = round(0.02 * steps)
    if step < warm:
        return 0.005 + 0.995 * step / warm
    passed = (step - warm) / (steps - 1 - warm)
    return 1.0 if passed < 0.05 else end + (1 - end) * (1 - passed) / 0.95


@pytest.mark.parametrize(
    ("name", "lam", "end"),
    [
        ("cca-var-d16", 50, 0.1),
        ("cca-var-d20", 50, 0.1),
        ("cca-var-d24", 100, 0.01),
        ("cca-var-d30", 1000, 0.01),
    ],
)
def test_schedule_of_cca_on_var(name: str, lam: float, end: float) -> None:
    """One epoch is 5,004 steps of 256; 100 of them warm up; the end is ``wpe`` of 2e-5."""
    found = run(name).in_steps(IMAGENET)
    assert (found.checkpoints, found.batch, found.lr) == ([5004], 256, 2e-5)
    rates = [found.how.rate(step, 5004) for step in range(5004)]
    assert rates == pytest.approx([rate_of_var(step, 5004, end) for step in range(5004)])
    assert (rates[0], rates[50]) == pytest.approx((0.005, 0.5025))
    assert rates[99] < 1 and rates[100] == rates[345] == 1 and rates[346] < 1
    assert rates[5003] == pytest.approx(end)
    assert (found.how.name, found.how.betas) == ("adamw", (0.9, 0.95))
    assert found.how.decay(0, 5004) == 0.05
    assert found.how.decay(5003, 5004) == pytest.approx(0.08 if name == "cca-var-d30" else 0.05)
    objective = found.objective.model_dump()
    assert objective == {"name": "cca", "beta": 0.02, "lambda": lam, "K": 1, "uncond_ratio": 0.1}
    # clipped at 2 once the loss has been divided by λ, which ours is not
    assert found.how.clip == 2 * lam


def test_groups_of_cca_on_var() -> None:
    """As filter_params of VAR's lr_control.py: one axis, biases, and its names of positions,
    levels and scales are spared. Of VAR-d36, whose modulation is shared, and of a usual one."""
    official = (
        *("cls_token", "start_token", "task_token", "cfg_uncond"),
        *("pos_embed", "pos_1LC", "pos_start", "start_pos", "lvl_embed"),
        *("gamma", "beta", "ada_gss", "moe_bias", "scale_mul"),
    )
    assert set(NO_DECAY) < set(official)
    for shared in (False, True):
        config = VarConfig(
            depth=2, embed_dim=8, num_heads=1, shared_aln=shared, num_classes=3,
            patch_nums=(1, 2), vocab_size=5, z_channels=4,
        )  # fmt: skip
        net = Var.build(config, torch.Generator().manual_seed(0))
        family = object.__new__(VarFamily)
        family.device = torch.device("cpu")
        optimizer = make_optimizer(family, net, run("cca-var-d16").how)
        names = {id(p): name for name, p in net.named_parameters()}
        for group in optimizer.param_groups:
            for p in group["params"]:
                name = names.pop(id(p))
                spared = p.ndim == 1 or name.endswith("bias") or any(k in name for k in official)
                assert group[DECAYS] != spared, name
        assert not names


# ------------------------------------------------------------------ the others


def test_rates_of_edm2_are_where_its_training_ended() -> None:
    for name, lr, images, decay in (
        ("edm2-img64-s", 0.0100, 1024 << 20, 35_000),
        ("edm2-img512-l", 0.0080, 1792 << 20, 70_000),
    ):
        found = run(name, **OWN)
        steps = images / 2048
        assert found.lr == pytest.approx(lr / math.sqrt(steps / decay), rel=2e-3)
        assert (found.batch, found.how.name, found.how.betas) == (2048, "adam", (0.9, 0.99))


def test_average_of_gft() -> None:
    ema = run("gft-dit-xl", objective={"name": "mclr"}).how.ema
    assert ema is not None and ema.half_life is not None
    assert 0.5 ** (256 / ema.half_life) == pytest.approx(0.9999, abs=1e-9)


def test_gft_on_dit_is_a_run_beside_those_of_its_tier() -> None:
    """The example of the page, in the configuration that it names: 28 epochs, β fixed, a row."""
    section = PAGE.read_text().split("## Recipes of fine-tuning")[1]
    added = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0])
    content = yaml.safe_load((ROOT / "config" / "imagenet-dit.yaml").read_text())
    content["data"] |= added["data"]
    content["runs"] |= added["runs"]
    plan = Plan(parse_tier(content, "imagenet-dit.yaml"))
    (made,) = plan.of("dit-gft")
    assert made.method == "gft" and made.checkpoints == (28 * IMAGENET // 256,)
    objective = plan.finetune_spec(made.run_id).content()["run"]["objective"]
    assert objective == {"name": "gft", "beta": 0.667, "uncond_ratio": 0.1}
    assert 1 / objective["beta"] - 1 == pytest.approx(0.5, abs=1e-3)
    content["runs"]["dit-gft"] |= {"objective": {"beta": "input"}, "dial": [0.5]}
    with pytest.raises(UserError, match="cannot take β as an"):
        parse_tier(content, "imagenet-dit.yaml")


# ------------------------------------------------------------------ as a key of a run


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_a_run(name: str) -> None:
    given = {key: value for key, value in OWN.items() if not _says(name, key)}
    given |= {"objective": {"beta": 2 / 3}} if name == "gft-dit-xl" else {}
    found = run(name, **given)
    content = found.model_dump(mode="json", by_alias=True)
    assert content["recipe"] == name
    for key, (value, source) in RECIPES[name].items():
        section: Any = content
        for part in key.split("."):
            section = section[part]
        assert section == value and source
    assert FineTuning.model_validate(content) == found


def _says(name: str, key: str) -> bool:
    keys = RECIPES[name]
    return f"{key}.name" in keys or (key == "checkpoints" and bool({key, "epochs"} & keys.keys()))


def test_a_run_overrides_its_recipe() -> None:
    found = run(
        "cca-var-d24", lr=1e-5, checkpoints=[7], objective={"name": "cca", "lambda": 3},
        optimizer={"clip": 5, "ema": {"std": 0.1}},
    )  # fmt: skip
    assert (found.lr, found.batch, found.checkpoints, found.epochs) == (1e-5, 256, [7], None)
    assert found.objective.model_dump()["lambda"] == 3
    assert found.objective.model_dump()["uncond_ratio"] == 0.1
    assert (found.how.clip, found.how.weight_decay) == (5, 0.05)
    assert found.how.ema is not None and found.how.ema.std == 0.1
    other = run("cca-var-d24", objective={"name": "mclr", "K": 2})
    assert other.objective.model_dump() == {"name": "mclr", "K": 2, "dsm": 0.0}
    own = run("cca-var-d24", objective={"implementation": "a.py:B"})
    assert own.objective.name == "own"


def test_a_specification_holds_values_and_not_the_name(tiny: dict[str, Any]) -> None:
    """A recipe that is written anew later makes no run again; the tier's record has its name."""
    tiny["runs"]["var-cca"] = {"model": "var", "recipe": "cca-var-d24", "batch": 32}
    plan = Plan(parse_tier(tiny, "tiny.yaml"))
    spec = plan.finetune_spec("var-cca-seed0")
    assert "recipe" not in canonical(spec)
    assert spec.run.checkpoints == [31] and spec.run.how.clip == 200
    assert '"recipe":"cca-var-d24"' in canonical(plan.tier)
    assert parse_tier(plan.tier.model_dump(mode="json", by_alias=True), "again") == plan.tier


def test_editors_ask_for_what_a_recipe_does_not_say(tiny: dict[str, Any]) -> None:
    schema = json_schema()
    tiny["runs"]["var-cca"] = {"model": "var", "recipe": "cca-var-d24"}
    jsonschema.validate(tiny, schema)
    del tiny["runs"]["var-cca"]["recipe"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tiny, schema)
    tiny["runs"]["var-cca"]["recipe"] = "cca-var-d25"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tiny, schema)


def test_unknown_recipe(tiny: dict[str, Any]) -> None:
    tiny["runs"]["var-cca"]["recipe"] = "cca"
    with pytest.raises(UserError, match=r"runs\.var-cca: recipe: unknown name 'cca'; choose from"):
        parse_tier(tiny, "tiny.yaml")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_of_another_family_is_refused(name: str, tiny: dict[str, Any]) -> None:
    fits = family_of(name)
    given = {key: value for key, value in OWN.items() if not _says(name, key)}
    given |= {"objective": {"beta": 2 / 3}} if name == "gft-dit-xl" else {}
    model = "edm2" if fits == "var" else "var"
    tiny["runs"] = {"x": {"model": model, "recipe": name, **given}}
    with pytest.raises(UserError, match=rf"runs\.x\.recipe: {name} is of {fits} models") as told:
        parse_tier(tiny, "tiny.yaml")
    assert str(told.value).endswith(f"choose from {', '.join(fitting(model))}")
    assert name not in fitting(model) and name in fitting(fits) and name in fitting("own")


# ------------------------------------------------------------------ documentation


def test_the_page_has_every_value_and_source() -> None:
    text = PAGE.read_text()
    for name, recipe in RECIPES.items():
        section = re.split(r"\n#+ ", text.split(f"### `{name}`")[1])[0]
        rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
        assert rows == [(key, shown(value), source) for key, (value, source) in recipe.items()]


def shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{v:g}" for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
