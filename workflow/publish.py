"""Publish finished tiers: tables and pictures of README and docs, dvc.lock, the embedded remote.

Run by `make publish` after `snakemake all theory`; commit what it changes. A tier that has not run
in this checkout stays as it was published.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from dvc.exceptions import DvcException

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mclr.config.reading import load_tier  # noqa: E402
from mclr.errors import UserError  # noqa: E402
from mclr.files.checksums import check  # noqa: E402
from mclr.jobs.report import images_of, shown_classes  # noqa: E402
from mclr.operations.records import pack  # noqa: E402
from mclr.planning.files import Files  # noqa: E402
from mclr.report.cost import costs, duration, total  # noqa: E402
from mclr.report.hero import write_hero  # noqa: E402
from mclr.report.rows import make_table  # noqa: E402
from mclr.report.verdict import markdown_of  # noqa: E402


@dataclass(frozen=True)
class Published:
    """A tier that the repository carries: its DVC file, and the figures that its pages show.

    ``hero`` is the model whose images lead the README.
    """

    tier: str
    stages: str
    figures: tuple[str, ...]
    hero: str = ""

    @property
    def results(self) -> Path:
        return ROOT / "results" / self.tier

    def picture(self, figure: str) -> Path:
        """Where the copy of a figure is that the documentation shows."""
        return ROOT / "docs" / f"{self.tier}-{figure}"


TIERS = (
    Published("digits", "dvc.yaml", ("edm2-fd-is.png",)),
    Published(
        "fashion",
        "workflow/fashion/dvc.yaml",
        ("edm2-latent-fd-is.png", "edm2-latent-progressive.png"),
        "edm2-latent",
    ),
)


def with_block(page: str, name: str, text: str) -> str:
    """A page with ``text`` between the two markers of a name, wherever they stand."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, *rest = page.split(start)
    return before + "".join(f"{start}{text}{end}{part.split(end, 1)[1]}" for part in rest)


def cost_table(published: Published) -> str:
    """What the tier's jobs took, in Markdown."""
    tier = load_tier(ROOT / "config" / f"{published.tier}.yaml")
    lines = costs(published.results / "benchmarks", tier)
    rows = [
        f"| {line.step} | {line.jobs:,} | {duration(line.wall)} | {duration(line.cores)} |\n"
        for line in (*lines, total(lines))
    ]
    return "| | jobs | wall time, summed | time of a core |\n|:--|--:|--:|--:|\n" + "".join(rows)


def verdict_table(published: Published) -> str:
    """What each method does to FD, in Markdown."""
    tier = load_tier(ROOT / "config" / f"{published.tier}.yaml")
    metrics = pd.read_parquet(published.results / "metrics.parquet")
    return markdown_of(make_table(metrics, tier), tier)


def draw_hero(published: Published, path: Path) -> Path:
    """Draw the README's picture from the tier's stored images."""
    tier = load_tier(ROOT / "config" / f"{published.tier}.yaml")
    metrics = pd.read_parquet(published.results / "metrics.parquet")
    manifest = ROOT / Files(published.tier).prepared(None)["manifest"]
    grids, names = images_of(tier, published.results / "grids"), shown_classes(tier, manifest)
    return write_hero(metrics, tier, published.hero, grids, names, path)


def show(published: Published) -> None:
    """Put a tier's tables and figures into the documentation."""
    texts = {
        f"{path.stem} {published.tier}": path.read_text()
        for path in sorted(published.results.glob("table1*.md"))
    }
    texts[f"cost {published.tier}"] = cost_table(published)
    texts[f"verdict {published.tier}"] = verdict_table(published)
    for page in (ROOT / "README.md", ROOT / "docs" / f"{published.tier}.md"):
        found = page.read_text()
        for name, text in texts.items():
            found = with_block(found, name, text)
        page.write_text(found)
    for figure in published.figures:
        shutil.copyfile(published.results / "figures" / figure, published.picture(figure))
    if published.hero:
        draw_hero(published, published.picture("same-noise.png"))


def missing(stages: str) -> list[str]:
    """Outputs of the stages in a DVC file that are not here; paths below the top."""
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        named = [stage for stage in repo.index.stages if stage.path_in_repo == stages]
        places = sorted(Path(out.fs_path) for stage in named for out in stage.outs)
    return [path.relative_to(ROOT).as_posix() for path in places if not path.exists()]


def require(tiers: Sequence[Published]) -> None:
    """End with one line if a part of what is to be published is not here.

    The theory lab's files are in the DVC file of the first tier.
    """
    for published in tiers:
        if absent := missing(published.stages):
            some = ", ".join(absent[:3]) + (" …" if absent[3:] else "")
            sys.exit(
                f"publish: {published.tier}: {len(absent)} files or folders are not here ({some}). "
                f"`dvc pull {published.stages}` brings those that are published; or make them with "
                f"`snakemake --configfile config/{published.tier}.yaml --cores 2 all theory`"
            )


def check_notes(tiers: Sequence[Published]) -> None:
    """UserError if a result is not what its job wrote: `dvc commit` would take it for good."""
    for published in tiers:
        for note in published.results.rglob(".*.sha256"):
            check(note.with_name(note.name[1:].removesuffix(".sha256")).relative_to(ROOT))


def main() -> None:
    """Publish what is here."""
    run = partial(subprocess.run, check=True)
    here = [tier for tier in TIERS if (tier.results / "metrics.parquet").is_file()]
    if not here:
        sys.exit("publish: no tier has results here: run `dvc pull`, or `snakemake` to make them")
    require(here)
    check_notes(here)
    found = run(("dvc", "cache", "dir"), capture_output=True, text=True).stdout.strip()
    if ROOT not in (ROOT / found).resolve().parents:
        sys.exit(f"publish: the cache {found} is shared; its clean-up would remove what others use")
    if (ROOT / "results" / "theory").is_dir():
        pack("theory")
    for published in here:
        show(published)
        pack(published.tier)
        run(("dvc", "commit", "--force", "--quiet", published.stages))
    # A push that was killed may have left a list cut short, and this one would send only that.
    run(("mclr", "check-store", "--heal"))
    run(("dvc", "push"))
    run(("mclr", "check-store", "--remote", "embedded"))
    # Older commits find their objects in their own trees, where the embedded remote is a folder.
    run(("dvc", "gc", "--workspace", "--cloud", "--force", "-q"))
    run(("dvc", "status", "--quiet", *(published.stages for published in here)))


if __name__ == "__main__":
    os.chdir(ROOT)
    try:
        main()
    except (UserError, DvcException) as error:
        sys.exit(f"publish: {' '.join(str(error).split())}")
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        sys.exit(f"publish: `{command}` failed (exit status {error.returncode}); see above")
