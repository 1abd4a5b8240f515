"""The two folders in which `make same` runs: code of a commit, and the code of this tree."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from micro_tiers import TIERS  # noqa: E402

from mclr.provenance import packages  # noqa: E402
from mclr.versions.record import PLACE, Versions  # noqa: E402

PLACES = ROOT / ".snakemake" / "same"
BASE, NEW = PLACES / "base", PLACES / "new"
KEPT = ("results", "data", ".snakemake", "pictures", "files")
"""What stays in the base folder when its code is replaced."""
CODE = ("mclr", "workflow", "config", "tests", "docs/examples", "data/versions.csv", "Snakefile")
CODE += ("profiles", "requirements.lock", "environment.yml")
MOST_COMMITS = 30
"""How many commits are searched, after those that recorded the digests."""


def checkout(commit: str) -> None:
    """Put the code of a commit into the base folder, whose results stay.

    From the repository's archive: a worktree would stay in its list if this were killed.
    """
    BASE.mkdir(parents=True, exist_ok=True)
    for path in BASE.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    archive = subprocess.run(
        ("git", "archive", commit, *present(commit)), cwd=ROOT, check=True, capture_output=True
    ).stdout
    for note in BASE.rglob(".*.sha256"):  # of results that another commit made anew, perhaps
        note.unlink()
    with tarfile.open(fileobj=io.BytesIO(archive)) as content:
        content.extractall(BASE, filter="tar")


def present(commit: str) -> list[str]:
    """The places of ``CODE`` that a commit has."""
    found = subprocess.run(
        ("git", "ls-tree", "--name-only", commit, *CODE), cwd=ROOT, check=True, capture_output=True
    )
    return found.stdout.decode().split()


def copy_tree() -> None:
    """Put this tree's code, committed or not, and the base's results into the other folder."""
    shutil.rmtree(NEW, ignore_errors=True)
    NEW.mkdir(parents=True)
    listed = subprocess.run(
        ("git", "ls-files", "-co", "--exclude-standard", "-z", "--", *CODE),
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if os.path.lexists(ROOT / name):
            (NEW / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, NEW / name, follow_symlinks=False)
    for name in KEPT:
        if (BASE / name).is_dir():
            shutil.copytree(BASE / name, NEW / name, symlinks=True, dirs_exist_ok=True)
    for tier in TIERS:  # of both trees the jobs are those of the base's configuration
        if (BASE / tier.config).is_file():
            shutil.copy2(BASE / tier.config, NEW / tier.config)


def candidates(digests: set[str]) -> list[str]:
    """Commits at which the code may have some digests: those that recorded them, then the last."""
    head = _git("rev-parse", "HEAD")
    recorded = {
        c for digest in digests for c in _git("log", "-1", "--format=%H", f"-S{digest}", PLACE)
    }
    ordered = [commit for commit in _git("log", "--format=%H", PLACE) if commit in recorded]
    last = _git("log", f"-{MOST_COMMITS}", "--format=%H", "--", "mclr", "workflow")
    return list(dict.fromkeys([*head, *ordered, *last]))


def _git(*arguments: object) -> list[str]:
    command = ("git", *map(str, arguments))
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()


def commit_of(versions: Versions, kinds: list[str]) -> dict[str, list[str]]:
    """A commit at which kinds have their recorded digests, and which kinds; as few as there are."""
    found: dict[str, list[str]] = {}
    wanted = list(kinds)
    for commit in candidates({versions.entries[kind].digest for kind in kinds}):
        at = digests_at(commit)
        here = [kind for kind in wanted if at.get(kind) == versions.entries[kind].digest]
        if here:
            found[commit] = here
        wanted = [kind for kind in wanted if kind not in here]
        if not wanted:
            break
    return found


def digests_at(commit: str) -> dict[str, str]:
    """Digests of a commit's code, as that commit takes them; none before there were any."""
    checkout(commit)
    result = subprocess.run(
        (sys.executable, "-m", "mclr.versions", "digests"),
        cwd=BASE, env=os.environ | {"PYTHONPATH": str(BASE)}, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(result.stdout) if result.returncode == 0 else {}


def fresh_base() -> None:
    """Drop the base folder if other packages made it: their results may differ."""
    stamp, content = PLACES / "packages.json", json.dumps(packages(), indent=2)
    if not stamp.is_file() or stamp.read_text() != content:
        shutil.rmtree(PLACES, ignore_errors=True)
        PLACES.mkdir(parents=True)
        stamp.write_text(content)
