"""An objective of somebody's own: found, checked, named, shown; and nobody else's code is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY

from mclr.config.reading import load_tier, parse_tier
from mclr.config.tier import Tier
from mclr.cost.passes import Passes, objective_passes
from mclr.errors import UserError
from mclr.objectives import Given, Needs, OwnObjective
from mclr.objectives.catalogue import METHODS
from mclr.objectives.own import Own, method_of
from mclr.planning.own import check_own
from mclr.planning.plan import Plan
from mclr.report.methods import methods_of, with_entries

ROOT = Path(__file__).resolve().parents[2]
MINE = """
from pydantic import PositiveFloat
from mclr.objectives import Loss, Needs, OwnObjective

class Mine(OwnObjective):
    beta: PositiveFloat
    K: int = 2
    label = "+Mine"

    def loss(self, given, part):
        return Loss(given.batch.x[part].sum() * self.beta, {})
"""
OTHER = """
class Other(Mine):
    n_negatives: int = 5
class Noisy(Mine):
    @property
    def needs(self):
        return Needs(partners=self.K, noisy=3)
class Mclr(Mine):
    pass
class Plain:
    pass
class Silent(OwnObjective):
    pass
class Loud(Mine):
    colour = "red"
class Taken(Mine):
    lr: float = 0.5
class Same(Mine):
    label = "+MCLR"
class Empty(Mine):
    label = "+ "
class Typed(Mine):
    label: str = "+Typed"
class Broken(Mine):
    @property
    def needs(self):
        raise KeyError("K")
class Open(Mine):
    model_config = {"extra": "allow"}
class Less(Mine):
    @property
    def needs(self):
        return Needs(partners=-1)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of somebody's own objectives, to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE + OTHER)
    return tmp_path


def tier(implementation: str = "mine.py:Mine", model: str = "edm2", **settings: Any) -> Tier:
    objective = {"implementation": implementation, "beta": 0.1, **settings}
    run = TINY["runs"][f"{model}-mclr"] | {"objective": objective}
    return parse_tier(TINY | {"runs": TINY["runs"] | {"mine": run}}, "tiny")


def test_its_runs_have_a_kind_a_method_and_the_digest_of_the_file(here: Path) -> None:
    plan = Plan(tier(K=3))
    run, spec = plan.runs["mine-seed0"], plan.finetune_spec("mine-seed0")
    assert run.method == spec.identity.method == "mine"
    assert run.hyperparameters == {"lr": 0.001, "batch": 8, "beta": 0.1, "K": 3}
    assert spec.content()["run"]["objective"]["implementation"] == "mine.py:Mine"
    (here / "mine.py").write_text(MINE + "# edited\n")
    edited = plan.finetune_spec("mine-seed0")
    assert spec.objective_sha256 != edited.objective_sha256
    assert spec == edited.with_(objective_sha256=spec.objective_sha256)
    assert "objective_sha256" not in plan.finetune_spec("edm2-mclr-seed0").content()


def test_it_is_loaded_with_its_settings_and_costs_what_it_needs(here: Path) -> None:
    objective = tier(K=3).runs["mine"].objective
    made = objective.loaded()
    assert made.model_dump() == {"beta": 0.1, "K": 3}
    assert made.needs == Needs(partners=3, reference=True)
    assert objective_passes(objective) == Passes(4, 4)
    assert objective_passes(tier("mine.py:Noisy").runs["mine"].objective) == Passes(3, 2 * 3 * 3)
    with pytest.raises(UserError, match="was edited after this run was planned"):
        objective.loaded("0" * 64)


def test_names_follow_from_the_class() -> None:
    found = [method_of(f"a/b.py:{name}") for name in ("Ipo", "IPO", "MyIpo", "My_Ipo", "Dpo2")]
    assert found == ["ipo", "ipo", "my-ipo", "my-ipo", "dpo2"]


MISTAKES = {
    "no such file": (tier("none.py:Mine"), "none.py:Mine': expected path/to/file.py:Class"),
    "no such class": (tier("mine.py:Nine"), "has no class Nine derived from mclr.objectives.Own"),
    "not derived": (tier("mine.py:Plain"), "has no class Plain derived from"),
    "no loss": (tier("mine.py:Silent"), "write its loss"),
    "a colour in words": (tier("mine.py:Loud"), "Loud.colour: String should match"),
    "an unknown setting": (tier(bta=1), r"bta: unknown setting, did you mean 'beta'\? Mine has"),
    "a wrong setting": (tier(beta=-1), r"beta: input should be greater than 0, got -1"),
    "a wrong type": (tier(K="x"), r"K: input should be a valid integer, .*got 'x'"),
    "a name of ours": (tier("mine.py:Mclr"), "'mclr' in results, a name that the catalogue has"),
    "hidden negatives": (tier("mine.py:Other"), "n_negatives: Other needs 5 samples"),
    "no diffusion": (tier("mine.py:Noisy", "var"), "noisy likelihoods|noisy samples"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_the_key_of_the_run(mistake: str, here: Path) -> None:
    given, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message) as found:
        check_own(Plan(given))
    assert str(found.value).startswith("runs.mine.objective")
    assert len(str(found.value).splitlines()) == 1


def test_an_error_in_the_file_names_its_line(here: Path) -> None:
    (here / "mine.py").write_text(MINE + "\nimport nothing_at_all\n")
    line = len(MINE.splitlines()) + 2
    with pytest.raises(UserError, match=rf"mine.py:{line}: ModuleNotFoundError: No module named"):
        check_own(Plan(tier()))
    (here / "mine.py").write_text("def")
    with pytest.raises(UserError, match=r"objective.implementation: .*mine.py: SyntaxError"):
        check_own(Plan(tier()))


def test_a_missing_setting_and_values_of_a_sweep_are_checked(here: Path) -> None:
    content = tier().model_dump(mode="json", by_alias=True)
    content["runs"]["mine"]["sweep"] = {"objective.beta": [0.1, -1]}
    with pytest.raises(UserError, match=r"runs.mine.objective.beta: .*greater than 0, got -1"):
        check_own(Plan(parse_tier(content, "tiny")))
    del content["runs"]["mine"]["objective"]["beta"]
    with pytest.raises(UserError, match=r"sweep.objective.beta: expected numbers for a key"):
        Plan(parse_tier(content, "tiny"))
    content["runs"]["mine"]["sweep"] = {}
    with pytest.raises(UserError, match=r"objective.beta: required setting of Mine is missing"):
        check_own(Plan(parse_tier(content, "tiny")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Taken", "settings named lr: results call something else so"),
        ("Same", r"its label is '\+MCLR', as that of mclr"),
        ("Empty", "Empty.label: .*expected letters"),
        ("Typed", "label: would be a setting; write it without a type"),
        ("Broken", r"broken.needs: KeyError: 'K'"),
        ("Less", r"Needs.partners is -1; expected a count"),
    ],
)
def test_what_results_could_not_tell_apart_is_refused(name: str, message: str, here: Path) -> None:
    with pytest.raises(UserError, match=message) as found:
        check_own(Plan(tier(f"mine.py:{name}")))
    assert str(found.value).startswith("runs.mine.objective")


@pytest.mark.parametrize("key", ["lr", "batch", "P_mean"])
def test_an_open_class_takes_no_setting_that_a_run_has(key: str, here: Path) -> None:
    with pytest.raises(UserError, match=f"settings named {key}: results call something else so"):
        check_own(Plan(tier("mine.py:Open", **{key: 2})))


def test_a_file_that_needs_another_one_or_ends_the_program_is_refused(here: Path) -> None:
    (here / "aside_of_mine.py").write_text("SCALE = 2\n")
    inserted = f"import sys\nsys.path.insert(0, {str(here)!r})\nimport aside_of_mine\n"
    (here / "mine.py").write_text(inserted + MINE)
    with pytest.raises(UserError, match="imports aside_of_mine, a file whose edits would not"):
        check_own(Plan(tier()))
    (here / "mine.py").write_text(MINE + "\nraise SystemExit(0)\n")
    with pytest.raises(UserError, match=r"mine.py:13: SystemExit: 0"):
        check_own(Plan(tier()))


def test_a_file_may_be_the_first_to_import_torch() -> None:
    """As in Snakemake, which does not need it."""
    program = (
        "import sys; from mclr.objectives.own import OwnObjective, find_class;"
        "assert 'torch' not in sys.modules;"
        "find_class('docs/examples/own_objective.py:Ipo', OwnObjective, 'x')"
    )
    done = subprocess.run((sys.executable, "-c", program), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_numbers_that_yaml_takes_for_text_are_numbers(here: Path) -> None:
    plan = Plan(tier(beta="1e-3", K=3))
    check_own(plan)
    assert plan.runs["mine-seed0"].hyperparameters["beta"] == 0.001


def test_two_files_with_one_class_name_are_told_apart(here: Path) -> None:
    (here / "again.py").write_text(MINE)
    content = tier().model_dump(mode="json", by_alias=True)
    second = {"implementation": "again.py:Mine", "beta": 0.1}
    content["runs"]["again"] = content["runs"]["mine"] | {"objective": second}
    with pytest.raises(UserError, match=r"runs.again.objective.implementation: .*mine.py:Mine has"):
        check_own(Plan(parse_tier(content, "tiny")))


@pytest.mark.parametrize("folder", ["results/theirs", "data/raw"])
def test_no_code_is_run_from_where_results_and_data_are(folder: str, here: Path) -> None:
    place = here / folder
    place.mkdir(parents=True)
    (place / "mine.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(UserError, match=r"runs.mine.objective.implementation: .*no code is run"):
        check_own(Plan(tier(f"{folder}/mine.py:Mine")))


@pytest.mark.parametrize("place", ["results/tiny", "data/raw", "model"])
def test_no_code_is_run_that_a_file_beside_results_names(place: str, here: Path) -> None:
    (here / "mine.py").write_text(MINE + f"\nopen('it-ran', 'w')  # {place}\n")
    config = here / place / "config.yaml"
    config.parent.mkdir(parents=True)
    (here / "config").mkdir()
    if place == "model":
        (config.parent / "config.json").touch()
        (config.parent / "model.safetensors").touch()
    text = json.dumps(tier().model_dump(mode="json", by_alias=True))
    for path in (config, here / "config" / "own.yaml"):
        path.write_text(text)
    plan = (sys.executable, "-m", "mclr", "plan", str(config))
    refused = subprocess.run(plan, cwd=here, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "runs.mine.objective.implementation: no code is run that a file" in refused.stderr
    assert not (here / "it-ran").exists()
    check_own(Plan(load_tier(here / "config" / "own.yaml")), here / "config" / "own.yaml")
    assert (here / "it-ran").exists()


def test_negatives_in_the_configuration_are_drawn(here: Path) -> None:
    plan = Plan(tier("mine.py:Other", n_negatives=7))
    check_own(plan)
    assert plan.negatives_spec("edm2").n_negatives == 24  # DDO's, which are more
    assert plan.runs["mine-seed0"].settings.objective.needs.negatives == 7  # type: ignore[union-attr]


# ------------------------------------------------------------------ what is shown


def recorded(folder: Path, **entry: Any) -> None:
    place = folder / "runs" / "mine-seed1"
    place.mkdir(parents=True)
    facts = {"experiment": "mine", "entry": entry}
    (place / "provenance.json").write_text(json.dumps(facts))


def test_what_runs_have_recorded_is_shown_without_their_code(here: Path) -> None:
    content = tier()
    (here / "mine.py").write_text("raise SystemExit('it ran')")
    before = methods_of(with_entries(content, here))["mine"]
    assert (before.suffix, before.colour) == ("+Mine", "#000000")
    recorded(here, label="+My own", colour="#123456", equation="x²", meaning="It is mine.")
    methods = methods_of(with_entries(content, here))
    assert [m for m in methods if m not in METHODS] == ["mine"]
    assert list(methods).index("mine") == list(methods).index("wmclr") + 1
    mine = methods["mine"]
    assert (mine.suffix, mine.colour, mine.title) == ("+My own", "#123456", "My own")
    assert mine.note == ("My own: It is mine.", "x²", "")
    looks = [(m.colour, m.marker, m.symbol) for m in methods.values()]
    assert all(len(set(column)) == len(methods) for column in zip(*looks, strict=True))


@pytest.mark.parametrize("entry", [{"label": "<b>"}, {"colour": "red; x"}, {"code": "x"}])
def test_what_cannot_be_shown_is_refused(entry: dict[str, str], here: Path) -> None:
    recorded(here, **entry)
    with pytest.raises(UserError, match=r"provenance.json: entry\.(label|colour|code)"):
        with_entries(tier(), here)


def test_what_was_not_asked_for_is_an_error_that_says_so() -> None:
    given = Given(print, print, None, torch.zeros(2))  # type: ignore[arg-type]
    for name in ("contrast", "negatives", "noisy_likelihood", "dropped"):
        with pytest.raises(UserError, match=r"uses what Needs\.\w+ did not ask for"):
            getattr(given, name)


def test_the_base_class_asks_for_what_settings_say(here: Path) -> None:
    class Some(OwnObjective):
        K: int = 3

        def loss(self, given: Any, part: Any) -> Any: ...

    assert Some().needs == Needs(3, True, 0)
    assert isinstance(tier().runs["mine"].objective, Own)
