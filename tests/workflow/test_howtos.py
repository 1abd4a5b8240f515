"""The how-to pages that touch the workflow, followed command by command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml
from checkout import MICRO, ROOT, Checkout, by_rule, follow
from mlflow import MlflowClient

EXAMPLE = "docs/examples/own_objective.yaml"
GATHERS = {"metrics": 1, "claims": 1, "table1": 1, "figures": 1, "report": 1, "track": 1}
GATHERS |= {"effective_config": 1}
NOTE = "mlflow.note.content"


def add_the_run(checkout: Checkout) -> None:
    """Put the example's run, swept over β, into the micro tier, and this in the example's place."""
    tier = yaml.safe_load((ROOT / MICRO).read_text())
    run = yaml.safe_load((ROOT / EXAMPLE).read_text())["runs"]["edm2-ipo"]
    small = {"batch": 16, "checkpoints": [1, 2], "lr": 0.0001}
    tier["runs"]["edm2-ipo"] = run | small
    (checkout.folder / EXAMPLE).write_text(yaml.safe_dump(tier, sort_keys=False))
    checkout.config = EXAMPLE


def test_own_objective_in_the_pipeline(copy_of_finished: Callable[[], Checkout]) -> None:
    checkout = copy_of_finished()
    kept = checkpoints(checkout.results)
    add_the_run(checkout)
    new = {"finetune": 2, "sample": 2 * 2 * 2, "evaluate": 1, "best": 1}
    assert by_rule(checkout.planned("all")) == Counter(new | GATHERS)
    said = follow(checkout, "howto-objective.md")
    cost, shown = (said[next(c for c in said if f"mclr {word}" in c)] for word in ("plan", "show"))
    assert "fine-tuning, 5 rows" in cost  # of K = 4; the others have at most 3
    assert "+IPO" in shown and "| +IPO † | 3 |" in (checkout.results / "table1.md").read_text()
    check_curves(checkout.results / "figures")
    card = (checkout.folder / "my-ipo" / "README.md").read_text()
    assert "EDM2 micro+IPO on digits" in card and "minimise  E[ ( r(x_w, c)" in card
    check_notes(checkout)
    assert kept.items() <= checkpoints(checkout.results).items()
    assert checkout.planned("all") == {}
    check_edits(checkout)


def checkpoints(results: Path) -> dict[str, int]:
    """Every weight file, and when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in results.rglob("*.safetensors")}


def check_curves(figures: Path) -> None:
    """A line of its own colour beside the others."""
    for kind in ("metrics-vs-step", "fd-is", "cost"):
        page = (figures / f"edm2-{kind}.html").read_text()
        assert '"+IPO"' in page and "#5b2c83" in page, kind


def check_notes(checkout: Checkout) -> None:
    client = MlflowClient(f"sqlite:///{checkout.folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'mclr-micro-edm2'")
    runs = client.search_runs([experiment.experiment_id], "params.method = 'ipo'")
    trained = [run for run in runs if NOTE in run.data.tags]
    assert {run.data.params["beta"] for run in trained} == {"0.02", "0.1"}
    assert all(run.data.tags[NOTE].startswith("IPO: ") for run in trained)


def check_edits(checkout: Checkout) -> None:
    """An edit of the file makes its runs again and no other; a mistake is told at the start."""
    place = checkout.folder / "docs" / "examples" / "own_objective.py"
    place.write_text(place.read_text() + "\nEDITED = True\n")
    planned = checkout.planned("all")
    assert {name for name in planned if name.startswith("finetune")} == {
        f"finetune_edm2_ipo_beta{beta}_seed0" for beta in ("0_02", "0_1")
    }
    assert not [name for name in planned if name.startswith(("base", "tokenizer", "negatives"))]
    checkout.edit(EXAMPLE, "K: 4", "k: 4")
    said = checkout.snakemake("--dry-run", "all", check=False)
    assert said.returncode != 0
    told = "runs.edm2-ipo.objective.k: unknown setting; Ipo has beta, K"
    assert f"mclr: error: {told}" in said.stdout


def test_memory(fresh: Checkout) -> None:
    follow(fresh, "howto-memory.md")
