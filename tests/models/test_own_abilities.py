"""What a family of one's own may have beside its three methods, and what it does not say it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_own_family import EXAMPLE, tier
from tiny import Trained

from mclr.config.reading import parse_tier
from mclr.data.load import Manifest, load_manifest
from mclr.errors import UserError
from mclr.files import load_tensors, save_tensors
from mclr.jobs.inputs import Data
from mclr.jobs.sampling import sample
from mclr.jobs.take_over import import_base
from mclr.jobs.training import train_base
from mclr.metrics.features import read_features
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.models.own.family import OwnFamily
from mclr.planning.own import check_own
from mclr.planning.plan import Plan

ABLE = f"""
import torch
from mclr.models.own.family import family_class


class Able(family_class("{EXAMPLE}:GaussianPixels")):
    guided_by = frozenset({{"null", "network", "interval"}})
    precisions = frozenset({{"float32", "bfloat16"}})

    def generate(self, net, seeds, labels, guidance, *, guide=None, interval=None):
        if interval and not interval[0] <= 1 <= interval[1]:  # its only noise level is 1
            guidance = 0.0
        x = super().generate(net, seeds, labels, guidance, guide=guide)
        return x * self.sampler.get("contrast", 1.0)

    def after_step(self, net):
        with torch.no_grad():
            net.log_std.clamp_(max=-0.5)
"""
IMAGES = Manifest(1, 8, 10, (), {})


@pytest.fixture
def able(tmp_path: Path) -> str:
    (tmp_path / "able.py").write_text(ABLE)
    return f"{tmp_path}/able.py:Able"


def planned(implementation: str, study: dict[str, Any] | None = None, **changes: Any) -> Plan:
    content = tier(implementation)
    content["models"] = {"own": content["models"]["own"] | changes}
    return Plan(parse_tier(content | ({"studies": {"own-mclr": study}} if study else {}), "own"))


def a_base(plan: Plan, trained: Trained, folder: Path) -> Path:
    train_base(plan.base_spec("own"), Data(trained.prepared), None, folder / "run", folder / "s")
    return folder / "run" / "checkpoints" / "step-000060.safetensors"


def test_its_sampler_gets_numbers(able: str) -> None:
    plan = planned(able, sampler={"contrast": 0.5})
    point = plan.points("own-base")[0]
    assert plan.sample_spec(point).sampler == {"contrast": 0.5}
    drawn = []
    for each in (plan, planned(able)):
        family = make_family(each.sample_spec(point), IMAGES)
        net = family.build(torch.Generator().manual_seed(0))
        drawn.append(family.generate(net, [1, 2], torch.tensor([0, 1]), 0.0))
    assert torch.equal(drawn[0], 0.5 * drawn[1]) and drawn[0].any()
    with pytest.raises(UserError, match=r"models\.own\.sampler\.contrast: .*got 'high'"):
        planned(able, sampler={"contrast": "high"})


def test_without_a_sampler_nothing_is_written_of_it(able: str) -> None:
    """So that nothing that was made before is made again."""
    plan = planned(able)
    assert "sampler" not in plan.sample_spec(plan.points("own-base")[0]).content()
    assert "sampler" not in plan.tier.model_dump(mode="json")["models"]["own"]
    assert planned(able, sampler={"a": 1}).tier.model_dump()["models"]["own"]["sampler"] == {"a": 1}


def test_precisions_are_those_of_its_class(able: str) -> None:
    family = make_family(planned(able, precision="bfloat16").base_spec("own"), IMAGES)
    assert isinstance(family, OwnFamily) and family.precision == "bfloat16"
    with pytest.raises(UserError, match=r"precision 'float16': Able has bfloat16, float32; "):
        make_family(planned(able, precision="float16").base_spec("own"), IMAGES)
    spec = planned(f"{EXAMPLE}:GaussianPixels", precision="bfloat16").base_spec("own")
    with pytest.raises(UserError, match=r"'bfloat16': GaussianPixels has float32; .*precisions ="):
        make_family(spec, IMAGES)


@pytest.mark.parametrize(
    ("study", "word", "what"),
    [
        ({"autoguidance": [0.5]}, "network", "autoguidance"),
        ({"interval": {"guidance": [0.5], "low": 0.5, "high": 2}}, "interval", "interval"),
    ],
)
def test_a_study_asks_for_what_the_class_says(
    able: str, study: dict[str, Any], word: str, what: str
) -> None:
    for implementation, message in (
        (able, None),
        (f"{EXAMPLE}:GaussianPixels", rf"{what}: GaussianPixels cannot be guided so .*'{word}'"),
    ):
        plan = planned(implementation, study)
        (point,) = (p for p in plan.evaluations["own-mclr-study"])
        if message is None:
            make_family(plan.sample_spec(point), IMAGES)
            continue
        with pytest.raises(UserError, match=message):
            make_family(plan.sample_spec(point), IMAGES)


def test_a_network_and_an_interval_guide_it(able: str, trained: Trained, tmp_path: Path) -> None:
    study = {
        "guidance": [0.5],
        "autoguidance": [0.5],
        "interval": {"guidance": [0.5], "low": 2, "high": 3},
    }
    plan, found = planned(able, study), {}
    base = a_base(plan, trained, tmp_path)
    other = tmp_path / "other.safetensors"
    tensors, metadata = load_tensors(base)
    tensors["mean"] = tensors["mean"].flip(0)
    save_tensors(other, tensors, metadata)
    for point in [plan.points("own-base")[0], *plan.evaluations["own-mclr-study"]]:
        out = tmp_path / point.method / "shard.parquet"
        sample(
            plan.sample_spec(point).with_(shards=1), 0, trained.manifest, base, None,
            {"cnn": trained.net / "net.safetensors"}, out, tmp_path / "grid.png",
            base=other if point.needs_base else None,
        )  # fmt: skip
        found[point.method] = read_features([out], "cnn").features
    assert torch.equal(found["base"], found["cfg-interval"])  # no level of its is in there
    assert not torch.equal(found["mclr+cfg"], found["mclr+autoguidance"])
    assert not torch.equal(found["base"], found["mclr+cfg"])


def test_its_constraints_hold_in_base_training(able: str, trained: Trained, tmp_path: Path) -> None:
    assert load_tensors(a_base(planned(able), trained, tmp_path))[0]["log_std"].max() <= -0.5


def test_weight_decay_spares_what_its_class_says(able: str) -> None:
    """Without a method parameters of one axis, such as the logarithm of a deviation."""
    from mclr.settings.optimizer import Optimizer
    from mclr.training.optimizer import make_optimizer
    from mclr.training.trainee import DECAYS

    how = Optimizer.model_validate({"name": "adamw", "weight_decay": 0.1})
    file = Path(able.rsplit(":", 1)[0])
    found = []
    for method in (
        "",
        "\n    def decays(self, name, parameter):\n        return name == 'log_std'\n",
    ):
        file.write_text(ABLE + method)
        family = make_family(planned(able).base_spec("own"), IMAGES)
        net = family.build(torch.Generator().manual_seed(0))
        names = {id(p): name for name, p in net.named_parameters()}
        groups = make_optimizer(family, net, how).param_groups
        found += [{names[id(p)] for g in groups if g[DECAYS] for p in g["params"]}]
    assert "log_std" in names.values() and found[1] == {"log_std"} != found[0]


def test_released_weights_of_it(trained: Trained, tmp_path: Path) -> None:
    """16-bit floats become float32; of another network than the class makes they are refused."""
    file, example = tmp_path / "mine.safetensors", f"{EXAMPLE}:GaussianPixels"
    plan = planned(example, base={"released": str(file)})
    (run,) = plan.of("own-base")
    assert (run.checkpoints, plan.tier.models["own"].releases.keys()) == ((0,), {"base"})
    family = make_family(plan.base_spec("own"), load_manifest(trained.manifest))
    state = family.build(torch.Generator()).state_dict()
    wanted = {name: torch.full_like(value, 0.25) for name, value in state.items()}
    save_tensors(file, {name: value.half() for name, value in wanted.items()}, {})
    import_base(plan.base_spec("own"), trained.manifest, file, None, tmp_path / "run")
    net = load_network(family, tmp_path / "run/checkpoints/step-000000.safetensors")
    assert all(torch.equal(value, wanted[name]) for name, value in net.state_dict().items())

    save_tensors(file, {"mean": wanted["mean"]}, {})
    with pytest.raises(UserError, match=r"mine\.safetensors"):
        import_base(plan.base_spec("own"), trained.manifest, file, None, tmp_path / "again")
    with pytest.raises(UserError, match=r"models\.own\.base.*a \.safetensors file.*convert"):
        planned(example, base={"released": "mine.pth"})
    (tmp_path / "mine").write_bytes(b"")
    with pytest.raises(UserError, match=r"of a family of one's own are a \.safetensors file"):
        import_base(
            plan.base_spec("own"), trained.manifest, tmp_path / "mine", None, tmp_path / "r"
        )


def test_objectives_of_noise_levels_are_refused(able: str) -> None:
    content = tier(able)
    content["runs"]["own-mclr"]["objective"] = {"name": "wmclr", "dsm": 1, "K": 2, "draws": 3}
    with pytest.raises(UserError, match=r"runs\.own-mclr: wmclr needs a diffusion model"):
        parse_tier(content, "own")


# ------------------------------------------------------------------ before anything is run


def test_what_a_class_cannot_do_is_said_before_anything_runs(able: str, tmp_path: Path) -> None:
    check_own(planned(able, {"autoguidance": [1]}))
    plain = f"{EXAMPLE}:GaussianPixels"
    with pytest.raises(UserError, match=r"models.own: GaussianPixels cannot be guided by network"):
        check_own(planned(plain, {"autoguidance": [1]}))
    with pytest.raises(UserError, match=r"models.own.precision: GaussianPixels has float32"):
        check_own(planned(plain, precision="bfloat16"))
    with pytest.raises(UserError, match=r"models.own.implementation: .* has no class Missing"):
        check_own(planned(f"{EXAMPLE}:Missing"))
    content = tier(plain)
    content["runs"]["own-mclr"]["optimizer"] = {"dropout": 0.1, "clip": 1}
    dropping = Plan(parse_tier(content, "own"))
    with pytest.raises(UserError, match=r"runs\.own-mclr\.optimizer\.dropout: GaussianPixels does"):
        check_own(dropping)
    bare = (
        "from mclr.models import OwnFamily\nclass Bare(OwnFamily):\n    guided_by = frozenset()\n"
    )
    (tmp_path / "bare.py").write_text(bare)
    with pytest.raises(UserError, match=r"Bare has no build, generate, log_likelihood; write it"):
        check_own(planned(f"{tmp_path}/bare.py:Bare"))


def test_a_class_that_was_edited_after_the_job_was_planned_is_refused(able: str) -> None:
    spec = planned(able).base_spec("own")
    make_family(spec, IMAGES)
    with Path(able.rpartition(":")[0]).open("a") as file:
        file.write("# an edit\n")
    with pytest.raises(UserError, match="was edited after this job was planned"):
        make_family(spec, IMAGES)


def test_numbers_that_yaml_takes_for_text_are_numbers(able: str) -> None:
    spec = planned(able, options={"least_std": "5e-2"}).base_spec("own")
    assert spec.content()["network"]["options"] == {"least_std": 0.05}
