"""The examples of the documentation do what their pages say."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, Trained

from mclr.config.reading import load_tier, parse_tier
from mclr.data.load import Manifest, load_images
from mclr.events import read_events
from mclr.jobs.inputs import Data
from mclr.jobs.training import finetune
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.objectives import Batch, Given, draw_partners
from mclr.planning.jobs import Jobs
from mclr.planning.own import check_own
from mclr.planning.plan import Plan
from mclr.report.methods import methods_for

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
import emoji_images
import own_objective

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def own_loss(trained: Trained, tiny_plan: Plan, manifest: Manifest) -> Any:
    """The loss of the example on a part of a minibatch, at θ = θ_ref."""
    family = make_family(tiny_plan.base_spec("edm2"), manifest)
    net = load_network(family, trained.edm2)
    images, labels = load_images(trained.prepared / "train.parquet", manifest)
    rng = torch.Generator().manual_seed(0)
    x = family.encode(images[:8])
    batch = Batch(x, labels[:8], family.draw(x, rng))
    contrast = draw_partners(batch.labels, 2, rng)

    def ell(x: Any, labels: Any, draw: Any) -> Any:
        return family.log_likelihood(net, x, labels, draw)

    def value(part: list[int], policy: Any = ell) -> float:
        given = Given(policy, ell, batch, torch.full((10,), 0.1), partners=contrast)
        return own_objective.Ipo(beta=0.25, K=2).loss(given, torch.tensor(part)).value.item()

    return value


def test_own_objective_at_the_reference(own_loss: Any) -> None:
    assert own_loss(list(range(8))) == pytest.approx(1 / (4 * 0.25**2))


def test_own_objective_of_parts_adds_up(own_loss: Any) -> None:
    def policy(x: Any, labels: Any, draw: Any) -> Any:
        return x.flatten(1).sum(1) / 50

    whole = own_loss(list(range(8)), policy)
    assert own_loss([0, 1, 2], policy) + own_loss([3, 4, 5, 6, 7], policy) == pytest.approx(whole)


def test_own_objective_moves_its_margin(trained: Trained, tmp_path: Path) -> None:
    """The job of the workflow, with the class by its file."""
    implementation = f"{ROOT}/docs/examples/own_objective.py:Ipo"
    run = TINY["runs"]["edm2-mclr"] | {
        "objective": {"implementation": implementation, "beta": 0.02, "K": 4},
        **{"lr": 0.01, "batch": 64, "checkpoints": [150]},
    }
    plan = Plan(parse_tier(TINY | {"runs": {"edm2-ipo": run}}, "tiny"))
    finetune(
        plan.finetune_spec("edm2-ipo-seed0"), Data(trained.prepared), trained.edm2, None, None,
        tmp_path / "run", tmp_path / "state",
    )  # fmt: skip
    events = read_events(tmp_path / "run" / "events.jsonl")
    margins = [event["margin"] for event in events if event["event"] == "train"]
    assert margins[-1] > 10 * abs(margins[0]), margins


def test_the_example_of_an_own_objective_is_a_valid_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plan = Plan(load_tier(Path("docs/examples/own_objective.yaml")))
    check_own(plan)
    betas = [run.hyperparameters["beta"] for run in plan.of("edm2-ipo")]
    assert betas == [0.02, 0.1] and {run.method for run in plan.of("edm2-ipo")} == {"ipo"}


def test_the_example_of_what_imitates_guidance_is_a_row_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Planned whole; the strengths are one and the same guidance."""
    monkeypatch.chdir(ROOT)
    tier = load_tier(Path("docs/examples/imitations.yaml"))
    plan, methods = Plan(tier), methods_for(tier, "edm2")
    trained = {"mclr", "mclr+dsm", "distill", "gft", "gft+dial", "mg"}
    assert {run.method for run in plan.runs.values()} == trained | {"base"}
    assert all(methods[name].in_table for name in trained)
    jobs = Jobs(plan)
    finals = [run for runs in plan.finals.values() for run in runs if run.is_final]
    assert {jobs.finetune(run.run_id).rule for run in finals} == {"finetune_final"}
    assert len(finals) == len(trained)
    strengths: dict[str, Any] = {
        "distill": lambda objective: objective.gamma,
        "gft": lambda objective: 1 / objective.beta - 1,
        "mg": lambda objective: objective.w / (1 - objective.w),
    }
    runs = tier.tuned
    gammas = {name: of(runs[f"edm2-{name}"].objective) for name, of in strengths.items()}
    assert set(gammas.values()) == {1} and 1 in tier.models["edm2"].guidance
    assert 0.5 in runs["edm2-gft-dial"].dial
    assert len(plan.points("edm2-gft-dial")) == 2 * len(runs["edm2-gft-dial"].dial)


def test_emoji_are_sorted_into_folders(tmp_path: Path) -> None:
    """By sub-category, in every colour of skin; what has no picture or no class stays out."""

    def entry(image: str, subcategory: str, has: bool = True, **tones: str) -> dict[str, Any]:
        one = {"image": image, "has_img_twitter": has}
        variations = {key: {"image": tone, "has_img_twitter": True} for key, tone in tones.items()}
        return {**one, "subcategory": subcategory, "skin_variations": variations}

    emoji = [
        entry("1.png", "face-smiling"),
        entry("2.png", "hands", dark="2-a.png", light="2-b.png"),
        entry("3.png", "country-flag"),
        entry("4.png", "country-flag", has=False),
        entry("5.png", "animal-bug"),
        entry("../../6.png", "person-role"),
    ]
    files = {"emoji.json": json.dumps(emoji).encode()}
    for name in ("1", "2", "2-a", "2-b", "3", "5", "6"):
        files[f"img/twitter/64/{name}.png"] = f"picture {name}".encode()
    with tarfile.open(tmp_path / "emoji.tgz", "w:gz") as package:
        for name, content in files.items():
            about = tarfile.TarInfo(f"package/{name}")
            about.size = len(content)
            package.addfile(about, io.BytesIO(content))
    emoji_images.write(tmp_path / "emoji.tgz", tmp_path / "emoji")
    written = {
        path.relative_to(tmp_path / "emoji").as_posix(): path.read_text()
        for path in (tmp_path / "emoji").rglob("*.png")
    }
    names = ("face/1", "hand/2", "hand/2-a", "hand/2-b", "flag/3", "person/6")
    assert written == {f"{name}.png": f"picture {name.split('/')[1]}" for name in names}
