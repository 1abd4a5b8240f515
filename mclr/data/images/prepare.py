"""Check the user's own images, split them, and store an index of both splits with a manifest."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mclr.data.images.decode import Decoder
from mclr.data.images.examine import Examined, examine_all
from mclr.data.images.listing import Listing, list_images, list_members
from mclr.data.images.noticed import in_words, notice
from mclr.data.images.read import with_mirrored
from mclr.data.images.source import expand, kind_of, listing_digest
from mclr.data.splits import hold_out
from mclr.errors import UserError
from mclr.events import LOG
from mclr.files import atomic, read_json, sha256, write_json, write_text
from mclr.settings.data import DECODING, OwnImages

SPLITS = ("train", "reference")
REPORT = "bad-images.txt"
MOST_CLASSES = 2**15
"""Feature files hold labels in 16 bits."""


@dataclass(frozen=True)
class Examination:
    """Every image of a source, and what was found in it; both in the order of the names."""

    listing: Listing
    found: list[Examined]

    @property
    def bad(self) -> dict[str, str]:
        """Reason by name of the images that cannot be used."""
        pairs = zip(self.listing.members, self.found, strict=True)
        return {member.name: image.reason for member, image in pairs if image.reason}

    @property
    def good(self) -> NDArray[np.int64]:
        """Rows of the images that can be used."""
        return np.flatnonzero([not image.reason for image in self.found])

    @property
    def noticed(self) -> dict[str, dict[str, Any]]:
        """What is odd about pictures that can be used: see ``mclr.data.images.noticed``."""
        rows = self.good.tolist()
        names = [self.listing.members[row].name for row in rows]
        return notice(names, [self.found[row].seen for row in rows])


def prepare_images(settings: OwnImages, folder: Path, threads: int = 1) -> None:
    """Write ``train.parquet``, ``reference.parquet`` (indexes) and ``manifest.json``.

    Every file is read and decoded once, in ``threads`` processes. Unusable images are listed in
    ``bad-images.txt``.

    Raises:
        UserError: the source is not as expected, some images are bad (unless they are to be
            skipped), or too few for the reference.
    """
    path = expand(settings.path)
    kind = kind_of(path)
    found = list_members(path, kind)
    listing = list_images(path, found, kind)
    digest = listing_digest(path, kind, found)
    _check_classes(path, settings, listing)
    decoder = Decoder(
        settings.transform, settings.resolution, settings.channels, settings.exif,
        settings.background, settings.bits,
    )  # fmt: skip
    examination = Examination(listing, examine_all(path, listing.members, decoder, threads))
    _report(path, settings, examination, folder / REPORT)
    further = _further(settings, examination)
    _check_count(path, settings, len(examination.good))
    labels = np.array(listing.labels)
    train, reference = _split(path, settings, listing.class_names, labels, examination.good)
    for name, rows in zip(SPLITS, (train, reference), strict=True):
        table = _index(examination, rows)
        if settings.flip and name == "train":
            table = with_mirrored(table)
        _write_index(folder / f"{name}.parquet", table, decoder, further)
    copies = shared(examination, train, reference) if settings.reference == "held-out" else []
    _tell_shared(path, copies)
    told = {"shared_images": copies} if copies else {}
    source = {
        "name": settings.source,
        "path": settings.path,
        "kind": kind,
        "transform": settings.transform,
        "exif": settings.exif,
        **further,
        "listing": digest,
    }
    _write_manifest(folder, decoder, {"source": source, **_facts(examination), **told})


def prepare_at(resolution: int, prepared: Path, folder: Path) -> None:
    """The same splits for models of another resolution: no image is read."""
    manifest = read_json(prepared / "manifest.json")
    source, channels = manifest["source"], manifest["shape"][0]
    decoder = Decoder(source["transform"], resolution, channels, source["exif"])
    further = {key: source[key] for key in DECODING if key in source}
    for name in SPLITS:
        table = pq.ParquetFile(prepared / f"{name}.parquet").read()
        _write_index(folder / f"{name}.parquet", table, decoder, further)
    _write_manifest(folder, decoder, manifest)


def _check_classes(path: Path, settings: OwnImages, listing: Listing) -> None:
    n = len(listing.class_names)
    if settings.classes not in (None, n):
        raise UserError(
            f"data.classes: {settings.classes} classes expected, {path} has {n}: "
            f"{', '.join(listing.class_names[:3])} … {listing.class_names[-1]}"
        )
    if n > MOST_CLASSES:
        raise UserError(f"{path}: {n} classes; at most {MOST_CLASSES} are possible")


def _check_count(path: Path, settings: OwnImages, n: int) -> None:
    if settings.count not in (None, n):
        raise UserError(
            f"data.count: {settings.count:,} images expected, {path} has {n:,} usable ones; write "
            "that number (steps in epochs follow from it)"
        )


def _report(path: Path, settings: OwnImages, examination: Examination, report: Path) -> None:
    """Say what is odd about the images; refuse bad ones, unless they are to be skipped."""
    bad, listing = examination.bad, examination.listing
    report.unlink(missing_ok=True)
    if bad:
        write_text(report, "".join(f"{name}: {reason}\n" for name, reason in bad.items()))
        name, reason = next(iter(bad.items()))
        told = f"{len(bad)} of {len(listing.members)} images are bad, such as {name}: {reason}"
        if settings.on_bad_image == "error":
            raise UserError(
                f"{path}: {told}; all are listed in {report}. Mend or remove them, or write "
                "`on_bad_image: skip` in section data"
            )
        LOG.warning("%s: %s; left out, listed in %s", path, told, report)
    if listing.ignored:
        LOG.info("%s: other files, by ending: %s", path, listing.ignored)
    copies = duplicates(examination)
    if copies:
        LOG.warning("%s: %d images are there more than once: manifest.json", path, len(copies))
    turned = sum(image.turned for image in examination.found)
    if turned and settings.exif == "ignore":
        LOG.warning(
            "%s: %d images are turned by EXIF, which is ignored; `exif: apply` in section data "
            "would turn them",
            path,
            turned,
        )
    for told in in_words(examination.noticed, settings.background):
        LOG.warning("%s: %s", path, told)
    counts = np.bincount(np.array(listing.labels)[examination.good])
    if len(counts) and counts.min() * 2 < counts.max():
        LOG.warning(
            "%s: %d to %d images per class, which wants `labels: proportional` in section "
            "evaluation; uniform labels are refused",
            path,
            counts.min(),
            counts.max(),
        )


def duplicates(examination: Examination) -> list[list[str]]:
    """Names of images with the same bytes, for each that is there more than once."""
    names = defaultdict(list)
    for member, image in zip(examination.listing.members, examination.found, strict=True):
        if not image.reason:
            names[image.sha256].append(member.name)
    return [same for same in names.values() if len(same) > 1]


def _split(
    path: Path,
    settings: OwnImages,
    class_names: list[str],
    labels: NDArray[np.int64],
    good: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the training and of the reference images, both with the class balance of all."""
    n_reference, n = settings.n_reference, len(good)
    counts = np.bincount(labels[good], minlength=len(class_names))
    few = [name for name, count in zip(class_names, counts, strict=True) if count < 2]
    if few:
        raise UserError(
            f"{path}: {len(few)} classes have fewer than two usable images: "
            f"{', '.join(few[:5])}; add images or remove the classes"
        )
    if n_reference is None or (settings.reference == "train" and n_reference == n):
        return good, good
    if min(n_reference, n - n_reference) < len(class_names):
        raise UserError(
            f"data.n_reference: {n_reference} of {n} images leave a split with fewer images "
            f"than its {len(class_names)} classes"
        )
    keep = settings.reference == "train"
    return hold_out(good, labels[good], class_names, n_reference, settings.split_seed, keep)


def shared(
    examination: Examination, train: NDArray[np.int64], reference: NDArray[np.int64]
) -> list[list[str]]:
    """Names of a reference image and of a training image with the same bytes, for each such."""
    names = [member.name for member in examination.listing.members]
    trained = {examination.found[row].sha256: names[row] for row in train[::-1].tolist()}
    pairs = ((names[row], trained.get(examination.found[row].sha256)) for row in reference.tolist())
    return [[name, copy] for name, copy in pairs if copy]


def _tell_shared(path: Path, copies: list[list[str]]) -> None:
    if copies:
        LOG.warning(
            "%s: %d reference images are training images too, with the same bytes, such as %s = "
            "%s; metrics favour what learns them by heart. Remove the copies",
            path,
            len(copies),
            *copies[0],
        )


def _index(examination: Examination, rows: NDArray[np.int64]) -> pa.Table:
    members = [examination.listing.members[row] for row in rows]
    found = [examination.found[row] for row in rows]
    return pa.table(
        {
            "index": pa.array(rows, pa.int64()),
            "label": pa.array([examination.listing.labels[row] for row in rows], pa.int16()),
            "name": pa.array([member.name for member in members], pa.string()),
            "bytes": pa.array([image.size for image in found], pa.int64()),
            "sha256": pa.array([image.sha256 for image in found], pa.string()),
            "offset": pa.array([member.offset for member in members], pa.int64()),
            "packed": pa.array([member.packed for member in members], pa.int64()),
        }
    )


def _further(settings: OwnImages, examination: Examination) -> dict[str, Any]:
    """Settings of the decoder that matter to some images alone, where there are such."""
    given: dict[str, Any] = settings.model_dump(mode="json")
    needed = {"background": settings.background} if "transparent" in examination.noticed else {}
    return needed | {key: given[key] for key in DECODING if key in given}


def _write_index(path: Path, table: pa.Table, decoder: Decoder, further: dict[str, Any]) -> None:
    """An index that names its pixels: what decides them is part of its bytes, so of its sha256."""
    content = {key: value for key, value in vars(decoder).items() if key not in DECODING} | further
    about = json.dumps(content, sort_keys=True)
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"pixels": about}), temporary)


def _facts(examination: Examination) -> dict[str, Any]:
    """What the manifest says of the images as a whole."""
    noticed = examination.noticed
    return {
        "num_classes": len(examination.listing.class_names),
        "class_names": examination.listing.class_names,
        "bad_images": examination.bad,
        "duplicates": duplicates(examination),
        "ignored_files": examination.listing.ignored,
        "turned_by_exif": sum(image.turned for image in examination.found),
        **({"noticed": noticed} if noticed else {}),
    }


def _write_manifest(folder: Path, decoder: Decoder, content: dict[str, Any]) -> None:
    side = decoder.resolution
    splits = {}
    for name in SPLITS:
        path = folder / f"{name}.parquet"
        labels = pq.ParquetFile(path).read(columns=["label"])["label"].to_numpy()
        splits[name] = {
            "sha256": sha256(path),
            "count": len(labels),
            "class_counts": np.bincount(labels, minlength=content["num_classes"]).tolist(),
        }
    more = {"shape": [decoder.channels, side, side], "dtype": "uint8", "splits": splits}
    write_json(folder / "manifest.json", content | more, noted=True)
