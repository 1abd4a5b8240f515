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
import json
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from micro_tiers import TIERS, DoesNotRunError, Micro, run, uncovered  # noqa: E402
from sides import (  # noqa: E402
    BASE,
    NEW,
    PLACES,
    checkout,
    commit_of,
    copy_tree,
    fresh_base,
)

from mclr.errors import UserError  # noqa: E402
from mclr.files import write_json  # noqa: E402
from mclr.operations.records import METADATA, output_of  # noqa: E402
from mclr.versions.check import digests, moved  # noqa: E402
from mclr.versions.digest import Code  # noqa: E402
from mclr.versions.kinds import KINDS, matching  # noqa: E402
from mclr.versions.record import PLACE, Versions, load_versions  # noqa: E402

OF_ONE_RUN = ("seconds", "git_commit", "git_dirty", "inputs")
"""Facts of provenance.json that differ between any two runs, or any two commits; and the sha256 of
inputs, which are compared as files."""


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
    return other.is_file() and compared(one) == compared(other)


def compared(path: Path) -> bytes:
    """What of a file is to be equal: all but what is of one run alone."""
    if path.name == "provenance.json":
        facts = json.loads(path.read_text())
        return json.dumps({k: v for k, v in facts.items() if k not in OF_ONE_RUN}).encode()
    if path.name == "metrics.parquet":  # has a column of what provenance says
        rows = pd.read_parquet(path)
        return bytes(rows.drop(columns=[c for c in OF_ONE_RUN if c in rows]).to_parquet())
    return path.read_bytes()


@dataclass
class Verdict:
    """What came of a kind: files that were compared, and those that differ."""

    files: int = 0
    differing: list[str] = field(default_factory=list)
    tiers: list[str] = field(default_factory=list)
    failed: str = ""
    is_same_code: bool = False
    is_lost: bool = False

    @property
    def is_same(self) -> bool:
        """Whether the kind may be confirmed."""
        ran = bool(self.files) and not self.differing and not self.failed
        return self.is_same_code or ran


def made_by(code: Code, tier: Micro, wanted: list[str]) -> list[Made]:
    """Make a tier in the base folder, where files of some kinds are to be of this very code.

    What another commit's code left there of these is made again; what another configuration left
    there goes.
    """
    record = PLACES / f"made-{tier.name}.json"
    last, asked = PLACES / f"asked-{tier.name}.yaml", (BASE / tier.config).read_text()
    if not last.is_file() or last.read_text() != asked:
        shutil.rmtree(BASE / "results" / tier.name, ignore_errors=True)
        record.unlink(missing_ok=True)
        last.write_text(asked)
    made = json.loads(record.read_text()) if record.is_file() else {}
    now = {kind: digest_of(kind, code) for kind in tier.kinds}
    write_json(record, now | made)
    target = "theory" if tier.name == "theory" else "all"
    try:
        run(BASE, tier, "--quiet", "all", "--keep-going", "--", target)
    except DoesNotRunError as error:  # what the older code cannot make has no file to compare
        print(f"of the older code {error}", flush=True)
    found = [m for m in made_in(BASE, tier) if m.kind in wanted]
    stale = {kind for kind in wanted if made.get(kind, now[kind]) != now[kind]}
    if paths := [m.path for m in found if m.kind in stale]:
        remake(BASE, tier, paths)
        write_json(record, now | made | {kind: now[kind] for kind in stale})
    return found


def compare(code: Code, tier: Micro, wanted: list[str], verdicts: dict[str, Verdict]) -> None:
    """Make the files of changed kinds again with this tree's code, and compare them.

    code: of the base folder.
    """
    found = made_by(code, tier, wanted)
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
        remake(NEW, tier, paths)
    except DoesNotRunError as error:
        for kind in {m.kind for m in files}:
            verdicts[kind].failed = str(error)


def remake(folder: Path, tier: Micro, paths: list[str]) -> None:
    """Make files again. They go first: what no job makes is absent, not equal to its copy."""
    for path in paths:
        if (folder / path).is_dir():
            shutil.rmtree(folder / path)
        else:
            (folder / path).unlink(missing_ok=True)
    run(folder, tier, "--quiet", "all", "--forcerun", *paths, "--", *paths)


def judge(tier: Micro, kind: str, found: list[Made], verdicts: dict[str, Verdict]) -> None:
    """Add to a kind's verdict what its files of a tier tell."""
    files = [m.path for m in found if m.kind == kind]
    verdict = verdicts[kind]
    verdict.files += len(files)
    verdict.tiers += [tier.name] if files else []
    verdict.differing += [path for path in files if not equal(path)]


def tell(kind: str, verdict: Verdict) -> str:
    """A verdict in one line."""
    if verdict.is_lost:
        return f"  {kind:28} has its recorded digest at none of the commits searched"
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
    by_commit = commit_of(before, changed)
    verdicts = {kind: Verdict(is_lost=True) for kind in changed}
    for commit, kinds in by_commit.items():
        verdicts |= {kind: Verdict() for kind in kinds}
        compare_with(commit, kinds, now, tiers, verdicts)
    print(f"\n{len(changed)} kinds have other code, on {', '.join(t.name for t in tiers)} (CPU):")
    for kind, verdict in verdicts.items():
        print(tell(kind, verdict))
    if missing := uncovered(tiers):
        print("\nOf the published tiers' options these did not take part:", *missing, sep="\n  ")
    same = confirm([kind for kind, verdict in verdicts.items() if verdict.is_same], before, now)
    seconds = time.monotonic() - started
    print(f"\n{len(same)} of {len(changed)} confirmed in {PLACE}, {seconds:.0f} s.")
    if len(same) < len(changed):
        print("For the others: `make bump KIND=…`, if their results are meant to change.")
    return 0 if len(same) == len(changed) else 1


def compare_with(
    commit: str,
    kinds: list[str],
    now: dict[str, str],
    tiers: tuple[Micro, ...],
    verdicts: dict[str, Verdict],
) -> None:
    """Compare kinds with the code of the commit that they were confirmed at.

    now: digests of this tree, by kind.
    """
    checkout(commit)
    code = Code(BASE)
    for kind in kinds:
        verdicts[kind].is_same_code = digest_of(kind, code) == now[kind]
    for tier in tiers:
        its_own = [k for k in kinds if k in tier.kinds and not verdicts[k].is_same_code]
        if its_own and tier.bring(BASE):
            began = time.monotonic()
            compare(code, tier, its_own, verdicts)
            print(f"{commit[:10]} tier {tier.name}: {time.monotonic() - began:.0f} s", flush=True)


def confirm(kinds: list[str], before: Versions, now: dict[str, str]) -> list[str]:
    """Write the digests of kinds whose results are the same; those that could be confirmed.

    What was edited or raised meanwhile is not what ran.
    """
    versions, at_the_end = load_versions(ROOT), digests(ROOT)
    entries = before.entries
    same = [k for k in kinds if at_the_end[k] == now[k] and versions.entries.get(k) == entries[k]]
    versions.confirm({kind: now[kind] for kind in same})
    if same:
        versions.save(ROOT)
    return same


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
