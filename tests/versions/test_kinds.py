"""Every kind's digest covers the code that its jobs run, and no other family's or objective's."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from diffusers_folders import dit_folder
from tiny import TINY, Trained, finetune_spec

from mclr.config.reading import parse_tier
from mclr.jobs.encoding import encode
from mclr.jobs.evaluation import evaluate
from mclr.jobs.feature_net import train_feature_net
from mclr.jobs.inputs import Data
from mclr.jobs.sampling import sample, sample_negatives
from mclr.jobs.take_over import import_base, import_tokenizer
from mclr.jobs.tokenizer import train_tokenizer
from mclr.jobs.training import finetune, train_base
from mclr.planning.plan import Plan
from mclr.versions.check import digests, moved
from mclr.versions.digest import Code
from mclr.versions.kinds import FAMILIES, KINDS, NETS, OBJECTIVES, calls, matching
from mclr.versions.record import load_versions

ROOT = Path(__file__).resolve().parents[2]
BUILT = "<"  # <lambda>, <genexpr>: inside the function that has the name
CONFIGURED = ("config", "folder", "architecture")
"""Parts of a family that whoever reads a tier knows: it may leave to a model's folder what its
network is."""
LENT = {"mclr.models.edm2.sampler", "mclr.models.edm2.encoders"}
"""Heun's method and draws of latents, which the family of diffusers takes from EDM2."""
LAZY = "__getattr__"  # of a package: where the file of somebody's own finds its imports


@pytest.fixture(scope="module")
def code() -> Code:
    return Code(ROOT)


def test_the_committed_versions_are_confirmed_for_this_code() -> None:
    assert moved(load_versions(ROOT), digests(ROOT)) == []


def test_every_rule_calls_a_command_of_a_kind() -> None:
    commands = {command for kind in KINDS.values() for command in kind.commands}
    rules = "".join(p.read_text() for p in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert set(re.findall(r"--log \{log\} ([a-z-]+)", rules)) == commands
    for command in commands:
        assert list(calls(ROOT, command)), command


def test_launched_kinds_depend_on_the_launch_scripts() -> None:
    launched = {
        c for kind in KINDS.values() for c in kind.commands if len(list(calls(ROOT, c))) > 2
    }
    assert launched == {"base", "finetune", "sample", "negatives"}
    assert any("torch.distributed.run" in text for text in calls(ROOT, "sample"))


@pytest.mark.parametrize("parts", [FAMILIES, OBJECTIVES, NETS])
def test_the_names_that_lead_to_parts_exist(parts: dict[str, set[str]], code: Code) -> None:
    for names in parts.values():
        for name in names:
            assert code.named(name), f"kinds.py names {name}, which is nowhere defined"


def modules(code: Code, name: str) -> set[str]:
    kind = KINDS[name]
    return {symbol.module for symbol in code.reached(kind.roots(code), kind.without) if symbol.name}


def test_a_kind_has_its_family_and_objective_alone(code: Code) -> None:
    var = modules(code, "finetune.var.cca")
    assert {"mclr.models.var.network", "mclr.objectives.cca", "mclr.likelihood"} <= var
    assert not [m for m in var if m.startswith("mclr.models.edm2") or m.endswith("own")]
    assert not var & {"mclr.objectives.mclr", "mclr.objectives.ddo", "mclr.objectives.wmclr"}
    figures = modules(code, "figures")
    assert "mclr.objectives.cca" in figures and "mclr.objectives.loss" not in figures
    edm2 = modules(code, "sample.edm2")
    assert {"mclr.models.edm2.network", "mclr.models.edm2.sampler", "mclr.metrics.vit"} <= edm2
    assert not [m for m in edm2 if m.startswith("mclr.models.var")]
    assert not [m for m in figures if m.startswith("mclr.training") or m.endswith("sampler")]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_code_of_a_family_is_in_its_own_kinds_alone(family: str, code: Code) -> None:
    """But for its part of the configuration, which whoever reads a tier knows."""
    for name in (name for name in KINDS if family not in name.split(".")):
        inside = {m for m in modules(code, name) if m.startswith(f"mclr.models.{family}.")}
        if ".diffusers" in name:
            inside -= LENT
        assert inside <= {f"mclr.models.{family}.{part}" for part in CONFIGURED}, name


def test_matching() -> None:
    families = ("edm2", "var", "diffusers", "own")
    assert matching("sample") == [f"sample.{family}" for family in families]
    assert matching("finetune.var.cca") == ["finetune.var.cca"]
    assert matching("theory-page") == ["theory-page"]
    assert matching("samp") == matching("") == []


# ------------------------------------------------------------------ what jobs really run


@contextmanager
def executed() -> Iterator[set[tuple[str, str]]]:
    """The definitions of the package that run inside the block: module and outermost name."""
    found: set[tuple[str, str]] = set()
    package = str(ROOT / "mclr")

    def note(frame: FrameType, event: str, argument: Any) -> None:
        place = frame.f_code.co_filename
        if event == "call" and place.startswith(package):
            name = frame.f_code.co_qualname.split(".")[0]
            module = ".".join(Path(place).relative_to(ROOT).with_suffix("").parts)
            if not name.startswith(BUILT) and name != LAZY:
                found.add((module.removesuffix(".__init__"), name))

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


Job = Callable[[Trained, Plan, Path], Callable[[], object]]
"""Prepares a job; what it gives runs it."""


def weights_of(trained: Trained, model: str) -> tuple[Path, Path | None]:
    return trained.base(model), trained.tokenizer_of(model)


def with_own(model: str) -> Plan:
    """The tiny tier with the example of somebody's own objective."""
    implementation = f"{ROOT}/docs/examples/own_objective.py:Ipo"
    objective = {"implementation": implementation, "beta": 0.1, "K": 2}
    run = TINY["runs"][f"{model}-mclr"] | {"objective": objective}
    return Plan(parse_tier(TINY | {"runs": {f"{model}-own": run}}, "tiny"))


def tuned(model: str, objective: str) -> Job:
    def job(trained: Trained, plan: Plan, place: Path) -> Callable[[], object]:
        plan = with_own(model) if objective == "own" else plan
        base, tokenizer = weights_of(trained, model)
        drawn = plan.negatives_spec(model)
        spec = finetune_spec(plan, model, objective)

        def run() -> None:
            negatives = None
            if objective == "ddo":
                negatives = place / "negatives.safetensors"
                sample_negatives(drawn, trained.manifest, base, tokenizer, negatives)
            paths = (place / "run", place / "state")
            finetune(spec, Data(trained.prepared), base, tokenizer, negatives, *paths)

        return run

    return job


def sampled(model: str) -> Job:
    def job(trained: Trained, plan: Plan, place: Path) -> Callable[[], object]:
        base, tokenizer = weights_of(trained, model)
        spec = plan.sample_spec(plan.points(f"{model}-base")[1]).with_(shards=1)
        nets = {"cnn": trained.net / "net.safetensors"}
        files = (place / "shard-000.parquet", place / "g.png")
        return lambda: sample(spec, 0, trained.manifest, base, tokenizer, nets, *files)

    return job


def measured(trained: Trained, plan: Plan, place: Path) -> Callable[[], object]:
    point = plan.points("edm2-base")[1]
    spec = plan.evaluate_spec("edm2-base")
    spec = spec.with_(shards=1, points=[row for row in spec.points if row.path == point.path])
    sampled("edm2")(trained, plan, place)()
    (place / point.path).mkdir(parents=True)
    shutil.move(place / "shard-000.parquet", place / point.path / "shard-000.parquet")
    return lambda: evaluate(spec, trained.manifest, {"cnn": trained.net}, place, place / "e.json")


def based(model: str) -> Job:
    def job(trained: Trained, plan: Plan, place: Path) -> Callable[[], object]:
        spec, tokenizer = plan.base_spec(model), trained.tokenizer_of(model)
        data = Data(trained.prepared)
        return lambda: train_base(spec, data, tokenizer, place / "run", place / "state")

    return job


def netted(trained: Trained, plan: Plan, place: Path) -> Callable[[], object]:
    net = plan.tier.features["cnn"]
    return lambda: train_feature_net(net, Data(trained.prepared), place / "cnn", place / "s")


def tokenized(trained: Trained, plan: Plan, place: Path) -> Callable[[], object]:
    spec, output = plan.tokenizer_spec("var"), place / "t.safetensors"
    return lambda: train_tokenizer(spec, Data(trained.prepared), output, place / "s")


def of_diffusers(command: str) -> Job:
    """A job of a network of diffusers on latents, taken over from a folder."""

    def job(trained: Trained, plan: Plan, place: Path) -> Callable[[], object]:
        plan, folder = with_diffusers(dit_folder(place / "dit")), place / "dit"
        manifest, data = trained.manifest, Data(trained.prepared)
        tokenizer, run = place / "t.safetensors", place / "net-base"
        base = run / "checkpoints" / "step-000000.safetensors"
        encoding, taking = plan.encode_spec("net"), plan.base_spec("net")
        import_tokenizer(encoding, manifest, folder, tokenizer)
        import_base(taking, manifest, folder, tokenizer, run)
        point, nets = plan.points("net-base")[1], {"cnn": trained.net / "net.safetensors"}
        drawing, files = plan.sample_spec(point).with_(shards=1), (place / "f.parquet", place / "g")
        tuning = plan.finetune_spec("net-mclr-seed0")
        paths = (place / "run", place / "state")
        found: dict[str, Callable[[], object]] = {
            "import-base": lambda: import_base(taking, manifest, folder, tokenizer, run),
            "encode": lambda: encode(encoding, data, tokenizer, place / "e.safetensors", paths[1]),
            "sample": lambda: sample(drawing, 0, manifest, base, tokenizer, nets, *files),
            "finetune": lambda: finetune(tuning, data, base, tokenizer, None, *paths),
        }
        return found[command]

    return job


def with_diffusers(folder: Path) -> Plan:
    model = {"family": "diffusers", "label": "DiT", "base": {"released": str(folder)}}
    model |= {"noise": {"P_mean": 0.3, "P_std": 1}, "guidance": [0.5]}
    model |= {"sampler": {"kind": "scheduler", "num_steps": 2}}
    tuned = TINY["runs"]["edm2-mclr"] | {"model": "net"}
    return Plan(parse_tier(TINY | {"models": {"net": model}, "runs": {"net-mclr": tuned}}, "tiny"))


JOBS: dict[str, Job] = {
    **{
        name: of_diffusers(name.split(".")[0])
        for name in (
            *("import-base.diffusers", "encode.diffusers"),
            *("sample.diffusers", "finetune.diffusers.mclr"),
        )
    },
    **{
        f"finetune.{m}.{o}": tuned(m, o)
        for m in ("edm2", "var")
        for o in OBJECTIVES
        if o != "wmclr"
    },
    **{f"sample.{model}": sampled(model) for model in ("edm2", "var")},
    **{f"base.{model}": based(model) for model in ("edm2", "var")},
    "evaluate": measured,
    "feature-net.classifier": netted,
    "tokenizer.var": tokenized,
}


@pytest.mark.parametrize("name", JOBS)
def test_nothing_runs_that_the_digest_does_not_cover(
    name: str, code: Code, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    """A result cannot change with code that was left out: every function that ran is covered."""
    job = JOBS[name](trained, tiny_plan, tmp_path)
    with executed() as ran:
        job()
    kind = KINDS[name]
    covered = {(s.module, s.name) for s in code.reached(kind.roots(code), kind.without)}
    assert len(ran) > 20
    assert ran - covered == set()
