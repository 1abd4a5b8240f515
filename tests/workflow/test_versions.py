"""Results follow versions: what leaves them alone, what makes them stale, and what `same` shows."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from checkout import ROOT, Checkout, by_rule

from mclr.config.reading import load_tier
from mclr.versions.check import digests, moved
from mclr.versions.kinds import KINDS, matching
from mclr.versions.record import PLACE, load_versions
from mclr.versions.used import kinds_of

sys.path.insert(0, str(ROOT / "workflow"))
import same
from micro_tiers import PUBLISHED, TIERS, uncovered
from same import BASE, made_in

VIEWS = {"report": 1, "track": 1}
AFTER_METRICS = {"metrics": 1, "claims": 1, "table1": 1, "figures": 1, **VIEWS}


def run(checkout: Checkout, *command: str) -> subprocess.CompletedProcess[str]:
    """``python -m mclr.versions``, of the checkout's own code."""
    checkout.environment["PYTHONPATH"] = str(checkout.folder)
    return checkout.run(sys.executable, "-m", "mclr.versions", *command, check=False)


def rename(checkout: Checkout, old: str, new: str) -> None:
    """Move a module, and say so where it is imported."""
    source, target = (checkout.folder / f"{m.replace('.', '/')}.py" for m in (old, new))
    target.parent.mkdir(exist_ok=True)
    source.rename(target)
    (target.parent / "__init__.py").touch()
    for path in checkout.folder.rglob("*.py"):
        text = path.read_text()
        if old in text:
            path.write_text(text.replace(old, new))


def renamed(checkout: Checkout) -> None:
    rename(checkout, "mclr.models.edm2.sampler", "mclr.models.edm2.heun")


def put_elsewhere(checkout: Checkout) -> None:
    rename(checkout, "mclr.planning.points", "mclr.planning.points")


def told_otherwise(checkout: Checkout) -> None:
    checkout.edit(
        "mclr/files/__init__.py", "checkpoint is truncated or", "this checkpoint is cut short, or"
    )


@pytest.mark.parametrize("change", [renamed, put_elsewhere, told_otherwise])
def test_names_places_and_messages_leave_everything_alone(
    change: Callable[[Checkout], None], copy_of_finished: Callable[[], Checkout]
) -> None:
    checkout = copy_of_finished()
    change(checkout)
    result = run(checkout, "check")
    assert (result.returncode, result.stdout) == (0, "")
    plan = checkout.snakemake("--dry-run", "all").stdout
    assert "Nothing to be done" in plan and "has changed since" not in plan


def test_a_colour_makes_no_job_stale_and_is_a_matter_of_pictures(
    copy_of_finished: Callable[[], Checkout],
) -> None:
    checkout = copy_of_finished()
    checkout.edit("mclr/objectives/mclr.py", "#d55e00", "#d55e01")
    assert checkout.planned() == {}
    result = run(checkout, "check")
    assert result.returncode == 1
    named = result.stdout.split("confirmed:")[1].split("First `make same`")[0].split()
    computing = ("base", "tokenizer", "encode", "finetune", "sample", "evaluate", "floors", "best")
    assert "figures," in named and not [k for k in named if k.startswith(computing)]
    run(checkout, "bump", "figures")
    assert checkout.planned() == {"figures": 1, **VIEWS}


def test_code_that_changes_numbers_is_told_and_runs_nothing(
    copy_of_finished: Callable[[], Checkout],
) -> None:
    """No hours of work are thrown away because a line changed; but nobody is left in the dark."""
    checkout = copy_of_finished()
    checkout.edit("mclr/models/edm2/sampler.py", "num_steps: int = 32", "num_steps: int = 33")
    assert checkout.planned() == {}
    said = checkout.snakemake("--dry-run", "all").stdout
    assert "mclr: the code of " in said and "sample.edm2" in said and "make same" in said
    result = run(checkout, "check")
    assert result.returncode == 1
    assert "sample.edm2" in result.stdout and "sample.var" not in result.stdout
    assert "sample.*" not in result.stdout
    assert "make same" in result.stdout and "make bump KIND=" in result.stdout


BUMPS: dict[str, dict[str, int]] = {
    "sample": {"sample": 18, "evaluate": 6, "best": 4, "similarity": 1, **AFTER_METRICS},
    "sample.var": {"sample": 8, "evaluate": 3, "best": 2, "similarity": 1, **AFTER_METRICS},
    "finetune.edm2.ddo": {
        **{"negatives": 1, "finetune": 1, "sample": 2, "evaluate": 1, "best": 1},
        **AFTER_METRICS,
    },
    "evaluate": {"evaluate": 6, "best": 4, **AFTER_METRICS},
    "claims": {"claims": 1, **VIEWS},
    "track": {"track": 1},
    "separation": {},
}


@pytest.mark.parametrize("kind", BUMPS)
def test_a_bump_makes_its_consequences_stale_and_nothing_else(
    kind: str, copy_of_finished: Callable[[], Checkout]
) -> None:
    checkout = copy_of_finished()
    said = run(checkout, "bump", kind).stdout
    assert [re.split(r" \d+-", line)[0] for line in said.splitlines()[:-1]] == matching(kind)
    assert "`snakemake -n all` shows what is stale" in said
    assert by_rule(checkout.planned()) == Counter(BUMPS[kind])


def test_a_bumped_kind_is_made_and_then_done(copy_of_finished: Callable[[], Checkout]) -> None:
    checkout = copy_of_finished()
    run(checkout, "bump", "table")
    before = (checkout.results / "table1.md").read_bytes()
    (checkout.results / "table1.md").write_text("of the old version\n")
    checkout.snakemake("all")
    assert (checkout.results / "table1.md").read_bytes() == before
    assert checkout.planned() == {}


def test_unknown_kinds(fresh: Checkout) -> None:
    before = (fresh.folder / PLACE).read_bytes()
    result = run(fresh, "bump", "smaple")
    assert result.returncode == 1
    assert result.stdout.startswith("mclr: error: KIND=smaple: no such kind of job; did you mean")
    assert (fresh.folder / PLACE).read_bytes() == before


# ------------------------------------------------------------------ what `same` runs


def test_the_micro_tiers_have_every_kind_and_option_of_the_published_tiers() -> None:
    """But for reading Fashion-MNIST, which is a download."""
    assert {name.split(".")[1] for name in uncovered(TIERS)} == {"fashion-mnist"}
    published = [kinds_of(load_tier(ROOT / "config" / f"{name}.yaml")) for name in PUBLISHED]
    covered = set[str]().union(*(tier.kinds for tier in TIERS))
    assert set[str]().union(*published) <= covered
    released = {k for k in KINDS if k.split(".")[0] in ("fetch-released", "published-net")}
    released |= {"import-tokenizer.edm2", "import-base.own"}
    assert KINDS.keys() - covered == released


def test_the_kinds_of_a_tier_are_those_that_ran(finished: Checkout) -> None:
    tier = next(tier for tier in TIERS if tier.name == "micro")
    assert {m.kind for m in made_in(finished.folder, tier)} == tier.kinds


def test_options_are_told_apart() -> None:
    from mclr.versions.used import options_of

    options = options_of(load_tier(ROOT / "config" / "fashion.yaml"))
    assert "models.edm2.network.attn_resolutions=list" in options
    assert "objectives.edm2.mclr.K=number" in options and "objectives.edm2.mclr.K=1" in options
    assert "models.var.precision=bfloat16" in options
    assert "models.edm2.base.label_noise=0.0" in options


def test_same_leaves_out_what_is_of_one_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times, and the commit that a run was made at: two sides never have these in common."""
    for side in ("BASE", "NEW"):
        (tmp_path / side).mkdir()
        monkeypatch.setattr(same, side, tmp_path / side)

    def differ(facts: dict[str, object], rows: dict[str, list[object]]) -> list[str]:
        """The files that differ if the other side has these facts and columns."""
        first = {"git_commit": "", "git_dirty": False, "seconds": 1.5, "code": "base.edm2 1"}
        measured = {"git_commit": ["", ""], "fd_cnn": [0.1, math.nan], "seed": [0, 1]}
        for side, (made, columns) in zip(("BASE", "NEW"), (({}, {}), (facts, rows)), strict=True):
            (tmp_path / side / "provenance.json").write_text(json.dumps(first | made))
            table = pd.DataFrame(measured | columns)
            table.to_parquet(tmp_path / side / "metrics.parquet", index=False)
        return [name for name in ("provenance.json", "metrics.parquet") if not same.equal(name)]

    elsewhere = {"git_commit": "c0ffee", "git_dirty": None, "seconds": 2.0}
    assert differ(elsewhere, {"git_commit": ["c0ffee", "unknown"]}) == []
    assert differ({"code": "base.edm2 2"}, {}) == ["provenance.json"]
    assert differ({"new": 1}, {"new": [1, 2]}) == ["provenance.json", "metrics.parquet"]
    for changed in ({"fd_cnn": [math.nextafter(0.1, 1), math.nan]}, {"seed": [0.0, 1.0]}):
        assert differ({}, changed) == ["metrics.parquet"]


def test_a_job_that_did_not_run_confirms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new side begins with a copy of the base's results, which are equal of course."""
    base, new = tmp_path / "base", tmp_path / "new"
    (base / "results/sampled").mkdir(parents=True)
    (base / "results/sampled/image.png").write_text("image")
    (base / "results/scores.json").write_text("{}")
    monkeypatch.setattr(same, "BASE", base)
    monkeypatch.setattr(same, "NEW", new)
    monkeypatch.setattr(same, "copy_tree", lambda: shutil.copytree(base, new))
    monkeypatch.setattr(same, "run", lambda *arguments: None)
    made = [same.Made(f"results/{name}", "evaluate", []) for name in ("sampled", "scores.json")]
    verdicts = {"evaluate": same.Verdict()}
    same.again(same.TIERS[0], made, verdicts)
    same.judge(same.TIERS[0], "evaluate", made, verdicts)
    assert verdicts["evaluate"].differing == [m.path for m in made]
    assert not verdicts["evaluate"].is_same


def test_a_tier_that_older_code_does_not_know_is_made_as_that_code_has_it(tmp_path: Path) -> None:
    """Otherwise a key that is new would leave out every kind that this tier alone has."""
    tier = next(tier for tier in same.TIERS if tier.name == "options")
    old, here = tmp_path / tier.config, (ROOT / tier.config).read_text()
    schema = tmp_path / "config/schema.json"
    schema.parent.mkdir()
    schema.write_text('{"not": {}}')
    assert not tier.bring(tmp_path)
    old.parent.mkdir(parents=True)
    old.write_text("tier: older")
    assert tier.bring(tmp_path) and old.read_text() == "tier: older"
    schema.write_text((ROOT / "config/schema.json").read_text())
    assert tier.bring(tmp_path) and old.read_text() == here


@pytest.fixture
def repository(copy_of_finished: Callable[[], Checkout]) -> Checkout:
    """A repository whose last commit has run: what `same` keeps from its first time."""
    checkout = copy_of_finished()
    place = checkout.folder / BASE.relative_to(ROOT)
    for name in ("results", "data", ".snakemake"):
        shutil.copytree(checkout.folder / name, place / name, symlinks=True, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("same"))  # fmt: skip
    from mclr.provenance import packages

    (place.parent / "packages.json").write_text(json.dumps(packages(), indent=2))
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "confirmed")):
        checkout.run("git", *identity, *command)
    return checkout


def test_same_confirms_what_is_equal_and_nothing_else(repository: Checkout) -> None:
    """A sampler computes other numbers; the evaluation is written otherwise, and is the same."""
    edits = (
        ("mclr/models/edm2/sampler.py", "h * (0.5 * slope", "h * (0.501 * slope"),
        ("mclr/jobs/evaluation.py", "shared = measure.protocol(n_samples)",
         "count = n_samples\n    shared = measure.protocol(count)"),
    )  # fmt: skip
    before = load_versions(repository.folder)
    for edit in edits:
        repository.edit(*edit)
    now = digests(repository.folder)
    assert {"sample.edm2", "finetune.edm2.ddo", "evaluate"} <= set(moved(before, now))
    repository.environment["PYTHONPATH"] = str(repository.folder)
    same = (sys.executable, "workflow/same.py", "--tier", "micro")
    for kind in ("sample.edm2", "evaluate", "separation.edm2"):
        same += ("--kind", kind)
    result = repository.run(*same, check=False)
    said = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("  ")}
    assert result.returncode == 1
    assert "same: 6 files (micro)" in said["evaluate"]
    assert "differs in" in said["sample.edm2"]
    assert "not run" in said["separation.edm2"]
    assert "data.fashion-mnist.source=fashion-mnist" in result.stdout
    after = load_versions(repository.folder)
    versions = ({k: e.version for k, e in v.entries.items()} for v in (before, after))
    assert len({json.dumps(found) for found in versions}) == 1
    assert set(moved(before, now)) - set(moved(after, now)) == {"evaluate"}

    for kind in ("sample.edm2", "separation.edm2"):
        run(repository, "bump", kind)
    assert "is the code that its results" in repository.run(*same).stdout
