"""Whether this tree gives the results that the code gave which they were confirmed with.

    make same                                   of every kind of job whose code has changed
    make same KIND=sample.edm2                  of one of them
    python workflow/same.py --tier micro        on some of the tiers alone

The micro tiers run at the commit of the recorded digests, in a folder that is kept for the next
time; then the jobs of the changed kinds run again with the code of this tree, on the same inputs.
Kinds whose files are equal, byte by byte, are confirmed in workflow/versions.yaml.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from micro_tiers import TIERS, DoesNotRunError, Micro, run, uncovered  # noqa: E402

from mclr.errors import UserError  # noqa: E402
from mclr.operations.records import METADATA, output_of  # noqa: E402
from mclr.provenance import packages  # noqa: E402
from mclr.versions.check import digests, moved  # noqa: E402
from mclr.versions.digest import Code  # noqa: E402
from mclr.versions.kinds import KINDS, matching  # noqa: E402
from mclr.versions.stored import PLACE, Versions, load_versions  # noqa: E402

PLACES = ROOT / ".snakemake" / "same"
BASE, NEW = PLACES / "base", PLACES / "new"
KEPT = ("results", "data", ".snakemake", "pictures", "files")
"""What stays in the base folder when its code is replaced."""
CODE = ("mclr", "workflow", "config", "tests", "docs/examples", "data/versions.csv", "Snakefile")
CODE += ("profiles", "requirements.lock", "environment.yml")
MOST_COMMITS = 30
"""How many commits are searched for the one of the recorded digests."""
TIMES = ("seconds",)
"""Keys of provenance.json that differ between any two runs."""


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


def commit_of(versions: Versions, kinds: list[str]) -> dict[str, list[str]]:
    """The newest commit at which kinds have their recorded digests, and which kinds."""
    listed = subprocess.run(
        ("git", "log", f"-{MOST_COMMITS}", "--format=%H", "--", "mclr", "workflow"),
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    head = subprocess.run(
        ("git", "rev-parse", "HEAD"), cwd=ROOT, check=True, capture_output=True, text=True
    )
    found: dict[str, list[str]] = {}
    wanted = list(kinds)
    for commit in dict.fromkeys([*head.stdout.split(), *listed.stdout.split()]):
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


def digest_of(kind: str, code: Code) -> str:
    """Digest of a kind's code, as it is taken now; empty if there is none."""
    try:
        return KINDS[kind].digest(code)
    except (KeyError, ValueError):
        return ""


@dataclass(frozen=True)
class Made:
    """A file or folder that a job of the base folder made."""

    path: str
    kind: str
    inputs: list[str]


def made_in(place: Path, tier: Micro) -> list[Made]:
    """What a folder has of a tier, by Snakemake's records."""
    kept = place / METADATA
    folders = (f"results/{tier.name}/", f"data/prepared/{tier.name}/", f"data/raw/{tier.name}.raw")
    found = []
    for record in sorted(path for path in kept.rglob("*") if path.is_file()):
        path = output_of(record, kept)
        content = json.loads(record.read_text())
        labels = [re.fullmatch(r"'([\w.-]+) [\w-]+'", str(p)) for p in content["params"] or []]
        kinds = [label[1] for label in labels if label and label[1] in KINDS]
        if kinds and path.startswith(folders) and (place / path).exists():
            found.append(Made(path, kinds[0], content["input"]))
    return found


def equal(path: str) -> bool:
    """Whether both folders have the same content at a place."""
    one, other = BASE / path, NEW / path
    if one.is_dir():
        names = {file.relative_to(one).as_posix() for file in one.rglob("*") if file.is_file()}
        also = {file.relative_to(other).as_posix() for file in other.rglob("*") if file.is_file()}
        return names == also and all(equal(f"{path}/{name}") for name in names)
    if not other.is_file():
        return False
    if one.name == "provenance.json":
        return timeless(one) == timeless(other)
    return one.read_bytes() == other.read_bytes()


def timeless(path: Path) -> dict[str, Any]:
    """Provenance without what no two runs have in common."""
    content: dict[str, Any] = json.loads(path.read_text())
    return {key: value for key, value in content.items() if key not in TIMES}


@dataclass
class Verdict:
    """What came of a kind: files that were compared, and those that differ."""

    files: int = 0
    differing: list[str] = field(default_factory=list)
    tiers: list[str] = field(default_factory=list)
    failed: str = ""
    is_same_code: bool = False


def compare(tier: Micro, wanted: list[str], verdicts: dict[str, Verdict]) -> None:
    """Make the files of changed kinds again with this tree's code, and compare them."""
    run(BASE, tier, "--quiet", "all", "--", "theory" if tier.name == "theory" else "all")
    found = [m for m in made_in(BASE, tier) if m.kind in wanted]
    # The report shows how long jobs took: it is made from what those of the base folder took.
    apart = [kind for kind in wanted if kind == "report"]
    together = [kind for kind in wanted if kind not in apart]
    again(tier, [m for m in found if m.kind in together], verdicts)
    suspects = [
        kind
        for kind in together
        for files in [[m for m in found if m.kind == kind]]
        if not all(equal(i) for m in files for i in m.inputs if (BASE / i).exists())
    ]
    for kind in together:
        if kind not in suspects:
            judge(tier, kind, found, verdicts)
    for kind in [*suspects, *apart]:  # on the base's own inputs
        again(tier, [m for m in found if m.kind == kind], verdicts)
        judge(tier, kind, found, verdicts)


def again(tier: Micro, files: list[Made], verdicts: dict[str, Verdict]) -> None:
    """Run the jobs that make some files, and no others, with this tree's code."""
    copy_tree()
    paths = [m.path for m in files]
    if not paths:
        return
    try:
        run(NEW, tier, "--quiet", "all", "--forcerun", *paths, "--", *paths)
    except DoesNotRunError as error:
        for kind in {m.kind for m in files}:
            verdicts[kind].failed = str(error)


def judge(tier: Micro, kind: str, found: list[Made], verdicts: dict[str, Verdict]) -> None:
    """Add to a kind's verdict what its files of a tier tell."""
    files = [m.path for m in found if m.kind == kind]
    verdict = verdicts[kind]
    verdict.files += len(files)
    verdict.tiers += [tier.name] if files else []
    verdict.differing += [path for path in files if not equal(path)]


def fresh_base() -> None:
    """Drop the base folder if other packages made it: their results may differ."""
    stamp, content = PLACES / "packages.json", json.dumps(packages(), indent=2)
    if not stamp.is_file() or stamp.read_text() != content:
        shutil.rmtree(PLACES, ignore_errors=True)
        PLACES.mkdir(parents=True)
        stamp.write_text(content)


def tell(kind: str, verdict: Verdict) -> str:
    """A verdict in one line."""
    if verdict.is_same_code:
        return f"  {kind:28} same code: its digest is taken in another way now"
    if verdict.failed:
        return f"  {kind:28} fails: {verdict.failed}"
    if not verdict.files:
        return f"  {kind:28} not run: no micro tier has such a job; `make bump KIND={kind}`"
    where = ", ".join(dict.fromkeys(verdict.tiers))
    if verdict.differing:
        some = ", ".join(verdict.differing[:2])
        return f"  {kind:28} differs in {len(verdict.differing)} of {verdict.files} files: {some}"
    return f"  {kind:28} same: {verdict.files} files ({where})"


def main(names: list[str], wanted: list[str]) -> int:
    """Compare, tell, confirm; the exit status is 0 if all changed kinds are the same."""
    tiers = tuple(tier for tier in TIERS if not names or tier.name in names)
    before, now = load_versions(ROOT), digests(ROOT)
    asked = {kind for name in wanted for kind in matching(name)} or set(KINDS)
    changed = [k for k in moved(before, now) if k in before.entries and k in asked]
    if not changed:
        print("The code of every kind is the code that its results were confirmed with.")
        return 0
    started = time.monotonic()
    fresh_base()
    verdicts = {kind: Verdict() for kind in changed}
    by_commit = commit_of(before, changed)
    same = []
    for commit, moved_kinds in by_commit.items():
        checkout(commit)
        code = Code(BASE)
        kinds = [kind for kind in moved_kinds if digest_of(kind, code) != now[kind]]
        same += [kind for kind in moved_kinds if kind not in kinds]
        for tier in tiers:
            its_own = [kind for kind in kinds if kind in tier.kinds]
            if its_own and (BASE / tier.config).is_file():
                began = time.monotonic()
                compare(tier, its_own, verdicts)
                print(
                    f"{commit[:10]} tier {tier.name}: {time.monotonic() - began:.0f} s", flush=True
                )
    lost = set(changed).difference(*by_commit.values())
    for kind in same:
        verdicts[kind].is_same_code = True
    same += [k for k, v in verdicts.items() if v.files and not v.differing and not v.failed]
    print(f"\n{len(changed)} kinds have other code, on {', '.join(t.name for t in tiers)} (CPU):")
    for kind, verdict in verdicts.items():
        if kind in lost:
            print(f"  {kind:28} has its recorded digest at none of the last {MOST_COMMITS} commits")
        else:
            print(tell(kind, verdict))
    if missing := uncovered(tiers):
        print("\nOf the published tiers' options these did not take part:", *missing, sep="\n  ")
    # What was edited or raised meanwhile is not what ran.
    versions, at_the_end = load_versions(ROOT), digests(ROOT)
    entries = before.entries
    same = [k for k in same if at_the_end[k] == now[k] and versions.entries.get(k) == entries[k]]
    versions.confirm({kind: now[kind] for kind in same})
    if same:
        versions.save(ROOT)
    print(
        f"\n{len(same)} of {len(changed)} confirmed in {PLACE}, {time.monotonic() - started:.0f} s."
    )
    if len(same) < len(changed):
        print("For the others: `make bump KIND=…`, if their results are meant to change.")
    return 0 if len(same) == len(changed) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare results of two versions of the code.")
    known = [tier.name for tier in TIERS]
    parser.add_argument("--tier", action="append", choices=known, help="This tier alone.")
    parser.add_argument("--kind", action="append", help="This kind alone, such as sample.edm2.")
    asked = parser.parse_args()
    try:
        sys.exit(main(asked.tier or [], asked.kind or []))
    except (UserError, DoesNotRunError) as error:
        sys.exit(f"same: {error}")
