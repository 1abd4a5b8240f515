"""Every stored byte read again: objects of the DVC cache and of a remote against their names.

DVC names an object by the md5 of its content, and trusts the name from then on: a byte that flips
in the cache goes unseen into every checkout. Reading everything again is the only way to know.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any, NamedTuple

from mclr.data.load import split_sha256
from mclr.errors import UserError
from mclr.files.checksums import check, differs, is_noted, published_files

CHUNK_BYTES = 1 << 20


class Fault(NamedTuple):
    """An object that is not what its name says.

    ``oid`` is the md5 that its content should have (with ``.dir`` for the list of a folder's
    files), ``actual`` the md5 that it has, or None when it is absent; ``paths`` are the files of
    this commit that it holds, relative to the repository.
    """

    oid: str
    actual: str | None
    paths: tuple[str, ...]

    @property
    def words(self) -> str:
        """One line: what is wrong with which object, and what is in it."""
        state = "absent" if self.actual is None else "damaged"
        return f"{self.oid} {state}: {', '.join(self.paths) or 'not used by this commit'}"


class Stores:
    """The DVC cache of a repository and its remotes.

    Raises:
        UserError: ``folder`` is not in a DVC repository.
    """

    def __init__(self, folder: Path) -> None:
        from dvc.exceptions import NotDvcRepoError  # type: ignore[import-untyped]
        from dvc.repo import Repo  # type: ignore[import-untyped]

        try:
            self.repo = Repo(str(folder))
        except NotDvcRepoError:
            raise UserError(f"{folder}: not in a DVC repository; run this in a checkout") from None
        self.cache = self.repo.cache.local
        self.root = Path(self.repo.root_dir)

    def remote(self, name: str | None = None) -> Any:
        """The object store of a remote; the default remote without a name.

        Raises:
            UserError: no remote has that name.
        """
        known = sorted(self.repo.config["remote"])
        name = name or self.repo.config["core"].get("remote")
        if name not in known:
            raise UserError(
                f"--remote {name}: no such DVC remote; expected one of: {', '.join(known)}"
            )
        return self.repo.cloud.get_remote_odb(name)

    def drop_lists(self) -> None:
        """Drop DVC's lists of what to push and pull; it makes them anew when it needs them.

        DVC saves such a list output by output, and takes any saved list for the whole. One that a
        kill cut short makes the next `dvc push` send a part and report success, and the next
        `dvc pull` bring a part and fail, for ever if that part is there already.

        Raises:
            UserError: another DVC command is at work.
        """
        from dvc.lock import LockError  # type: ignore[import-untyped]

        try:
            with self.repo.lock:
                self.repo.drop_data_index()
        except LockError:
            raise UserError(
                f"{self.root}: another DVC command is at work here; wait until it has ended"
            ) from None

    def check_cache(self, jobs: int) -> tuple[int, list[Fault]]:
        """Number of objects in the cache, and the damaged ones."""
        return self._check(self.cache, jobs, absent=False)

    def check_remote(self, name: str | None, jobs: int) -> tuple[int, list[Fault]]:
        """Number of objects in a remote, and those damaged or absent though this commit needs
        them; everything is downloaded to be read."""
        return self._check(self.remote(name), jobs, absent=True)

    def check_workspace(self, jobs: int) -> tuple[int, list[str], int]:
        """The files here that have a record: their number, what is wrong in a line per file, and
        how many others are not the published ones.

        Records are DVC's, the sha256 that jobs noted beside results, and manifests of data. What
        was made here, or is of another commit and in the cache, is no fault; tables and pictures
        have no note, and may have been made here where other results of their tier were.
        """
        with chdir(self.root):
            published = {Path(name) for name in published_files(self.root)}
            noted = {_noted_by(note) for note in Path("results").rglob(".*.sha256")}
            manifests = Path("data/prepared").rglob("manifest.json")
            splits = {split for file in manifests for split in file.parent.glob("*.parquet")}
            paths = sorted(path for path in published | noted | splits if path.is_file())
            made = {_tier_of(path) for path in noted} | {"theory"}

            def look(path: Path) -> tuple[str, bool]:
                try:
                    (split_sha256 if path in splits else check)(path)
                except UserError as error:
                    return str(error), False
                if path in splits | noted or is_noted(path) or not differs(path):
                    return "", False
                heal = f"`dvc checkout --force {path}` brings it back"
                is_made = _tier_of(path) in made
                return "" if is_made else f"{path}: not the published file; {heal}", is_made

            with ThreadPoolExecutor(jobs) as pool:
                found = list(pool.map(look, paths))
        return len(paths), [words for words, _ in found if words], sum(made for _, made in found)

    def route(self, name: str | None) -> str:
        """How to heal a remote (or the default one) that git has, in words; else nothing."""
        name = name or self.repo.config["core"].get("remote")
        if name not in self.repo.config["remote"]:
            return ""
        folder = Path(str(self.repo.config["remote"][name]["url"]))
        if not folder.is_dir() or not folder.resolve().is_relative_to(self.root.resolve()):
            return ""
        place = folder.resolve().relative_to(self.root.resolve()).as_posix()
        asked = ("git", "ls-files", "--", place)
        found = subprocess.run(asked, cwd=self.root, capture_output=True)
        return f"`git checkout {place}` heals it" if found.returncode == 0 and found.stdout else ""

    def heal_cache(self, faults: list[Fault], remote: str | None) -> list[Fault]:
        """Replace damaged objects by a good copy of the working directory, else of the remote.

        Files of the working directory that were checked out from a damaged object are checked out
        again. Returns what has no good copy; damaged objects are removed either way, so that
        nothing can take them for good.
        """
        from dvc.exceptions import DvcException

        for fault in faults:
            self.cache.fs.remove(self.cache.oid_to_path(fault.oid))
            for path in fault.paths:
                if self._digest_of(path) == fault.oid:
                    self._put(self.cache, fault.oid, self.root / path)
                    break
        outs = self._outs_of(faults)
        with suppress(DvcException):
            self.repo.fetch(targets=outs, remote=remote)
        spoilt = {p for f in faults for p in f.paths if self._digest_of(p) == f.actual}
        for path in spoilt:
            (self.root / path).unlink()
        if spoilt:
            with suppress(DvcException):
                self.repo.checkout(targets=outs, force=True)
        return [f for f in faults if f.paths and not self.cache.exists(f.oid)]

    def heal_remote(self, faults: list[Fault], name: str | None) -> list[Fault]:
        """Upload good copies from the cache; returns the faults for which it has none."""
        remote, left = self.remote(name), []
        for fault in faults:
            cached = Path(self.cache.oid_to_path(fault.oid))
            if cached.is_file() and _digest(self.cache, fault.oid) == _plain(fault.oid):
                self._put(remote, fault.oid, cached)
            elif fault.paths:
                left.append(fault)
        return left

    def _check(self, odb: Any, jobs: int, absent: bool) -> tuple[int, list[Fault]]:
        oids = sorted(oid for oid in odb.all() if _is_oid(oid))
        with ThreadPoolExecutor(jobs) as pool:
            digests = dict(zip(oids, pool.map(lambda oid: _digest(odb, oid), oids), strict=True))
        wrong = {oid: digest for oid, digest in digests.items() if digest != _plain(oid)}
        paths = self._paths(odb, digests.keys() - wrong.keys())
        faults = [Fault(oid, digest, tuple(paths.get(oid, ()))) for oid, digest in wrong.items()]
        if absent:
            faults += [Fault(oid, None, tuple(paths[oid])) for oid in sorted(paths.keys() - oids)]
        return len(oids), faults

    def _paths(self, odb: Any, sound: set[str]) -> dict[str, list[str]]:
        """The files of this commit by object; folders are listed from any sound list."""
        paths = defaultdict(list)
        for out in self._cached_outs():
            name, oid = self._name(out), out.hash_info.value
            paths[oid].append(name)
            if out.hash_info.isdir:
                for entry in self._entries(odb if oid in sound else self.cache, oid):
                    paths[entry["md5"]].append(f"{name}/{entry['relpath']}")
        return dict(paths)

    def _entries(self, odb: Any, oid: str) -> list[dict[str, str]]:
        """What a folder holds; nothing where its list is absent or damaged."""
        if not odb.exists(oid) or _digest(odb, oid) != _plain(oid):
            return []
        with odb.fs.open(odb.oid_to_path(oid), "rb") as stream:
            entries: list[dict[str, str]] = json.load(stream)
        return entries

    def _cached_outs(self) -> list[Any]:
        return [out for out in self.repo.index.outs if out.use_cache and out.hash_info]

    def _name(self, out: Any) -> str:
        return Path(out.fs_path).relative_to(self.root).as_posix()

    def _outs_of(self, faults: list[Fault]) -> list[str]:
        """The outputs of DVC stages that hold the given objects, as targets of DVC."""
        named = {path for fault in faults for path in fault.paths}
        outs = (self._name(out) for out in self._cached_outs())
        inside = {out for out in outs if any(f"{path}/".startswith(f"{out}/") for path in named)}
        return [str(self.root / out) for out in sorted(inside)]

    def _digest_of(self, path: str) -> str | None:
        """md5 of a file of the working directory; None where it is not a file."""
        file = self.root / path
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest()

    def _put(self, odb: Any, oid: str, file: Path) -> None:
        from dvc.fs import LocalFileSystem  # type: ignore[import-untyped]

        odb.add(str(file), LocalFileSystem(), oid, check_exists=False)


def _noted_by(note: Path) -> Path:
    """The file that a note is beside."""
    return note.with_name(note.name[1:].removesuffix(".sha256"))


def _tier_of(path: Path) -> str:
    """The tier whose results (``results/<tier>``) or data (``data/prepared/<tier>``) it is of."""
    return path.parts[1 if path.parts[0] == "results" else 2]


def _is_oid(text: str) -> bool:
    """Not the temporary files that a killed transfer leaves beside objects."""
    return len(_plain(text)) == 32 and set(_plain(text)) <= set("0123456789abcdef")


def _plain(oid: str) -> str:
    return oid.removesuffix(".dir")


def _digest(odb: Any, oid: str) -> str:
    """md5 of an object's content, read anew."""
    digest = hashlib.md5(usedforsecurity=False)
    with odb.fs.open(odb.oid_to_path(oid), "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
