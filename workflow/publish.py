"""Publish finished tiers: README's tables and pictures, dvc.lock, the embedded DVC remote.

Run by `make publish` after `snakemake all theory`; commit what it changes. A tier that has not run
in this checkout stays as it was published.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mclr.records import pack  # noqa: E402


@dataclass(frozen=True)
class Published:
    """A tier that the repository carries: its DVC file, and the figures that its pages show."""

    tier: str
    stages: str
    figures: tuple[str, ...]

    @property
    def results(self) -> Path:
        return ROOT / "results" / self.tier

    def picture(self, figure: str) -> Path:
        """Where the copy of a figure is that the documentation shows."""
        return ROOT / "docs" / f"{self.tier}-{figure}"


TIERS = (
    Published("digits", "dvc.yaml", ("edm2-fd-is.png",)),
    Published("fashion", "workflow/fashion/dvc.yaml", ()),
)


def with_table(readme: str, tier: str, table: str) -> str:
    """The README with the table of a tier between its two markers."""
    start, end = f"<!-- table1 {tier} -->\n", f"<!-- /table1 {tier} -->"
    before, rest = readme.split(start)
    return f"{before}{start}{table}{end}{rest.split(end)[1]}"


def show(published: Published) -> None:
    """Put a tier's table into the README and its figures beside the documentation."""
    readme = ROOT / "README.md"
    table = (published.results / "table1.md").read_text()
    readme.write_text(with_table(readme.read_text(), published.tier, table))
    for figure in published.figures:
        shutil.copyfile(published.results / "figures" / figure, published.picture(figure))


if __name__ == "__main__":
    os.chdir(ROOT)
    run = partial(subprocess.run, check=True)
    found = run(("dvc", "cache", "dir"), capture_output=True, text=True).stdout.strip()
    if ROOT not in (ROOT / found).resolve().parents:
        sys.exit(f"publish: the cache {found} is shared; its clean-up would remove what others use")
    pack("theory")
    for published in TIERS:
        if (published.results / "metrics.parquet").is_file():
            show(published)
            pack(published.tier)
            run(("dvc", "commit", "--force", "--quiet", published.stages))
    # A push that was killed may have left a list cut short, and this one would send only that.
    run(("mclr", "check-store", "--heal"))
    run(("dvc", "push"))
    run(("mclr", "check-store", "--remote", "embedded"))
    # Older commits find their objects in their own trees, where the embedded remote is a folder.
    run(("dvc", "gc", "--workspace", "--cloud", "--force", "-q"))
    run(("dvc", "status", "--quiet"))
