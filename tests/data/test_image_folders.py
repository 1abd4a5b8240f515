"""What counts as a class and as data: splits, junk, names, archives that lie."""

from __future__ import annotations

import json
import signal
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from picture_files import pictures, settings, write_folder, write_tar, write_tar_of_tars, write_zip

from mclr.data.images.listing import Listing, list_images, list_members
from mclr.data.images.members import Member, read_member
from mclr.data.images.prepare import prepare_images
from mclr.data.images.source import kind_of
from mclr.errors import UserError

FILES = pictures()
PICTURE = FILES["c0/0.png"]


def listed(path: Path) -> Listing:
    kind = kind_of(path)
    return list_images(path, list_members(path, kind), kind)


def refused(path: Path, text: str) -> None:
    with pytest.raises(UserError, match=text) as caught:
        listed(path)
    assert "\n" not in str(caught.value)


# --- splits ------------------------------------------------------------------------------------

PACKED: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "folder": lambda p, files: write_folder(p / "photos", files),
    "tar": lambda p, files: write_tar(p / "photos.tar", files, "./all of it/"),
    "tar of tars": lambda p, files: write_tar_of_tars(p / "photos.tar", files),
    "zip": lambda p, files: write_zip(p / "photos.zip", files),
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize(
    "names", [("train", "val"), ("Training", "test"), ("train", "valid", "test"), ("test2", "val")]
)
def test_splits_are_no_classes(kind: str, names: tuple[str, ...], tmp_path: Path) -> None:
    files = {f"{split}/{name}": content for split in names for name, content in FILES.items()}
    path = PACKED[kind](tmp_path, files)
    told = " and ".join(f"{name} \\(18 images\\)" for name in sorted(names))
    refused(path, f"the sub-folders are splits, not classes: {told}; ")
    best = {"Training": "Training", "train": "train", "test2": "test2"}[names[0]]
    refused(
        path, f"give {path}/{best} \\(" if kind == "folder" else f"pack (all of it/)?{best} alone"
    )
    if kind == "folder":
        assert listed(path / best).class_names == ["c0", "c1", "c2"], "what the message says"


def test_splits_beside_other_folders(tmp_path: Path) -> None:
    """Common classes give them away; splits without classes are splits as well."""
    both = {f"{split}/{name}": PICTURE for split in ("train", "test") for name in FILES}
    refused(write_folder(tmp_path / "a", both | {"notes/plan.png": PICTURE}), "are splits")
    flat = {f"train/{name}": PICTURE for name in FILES} | {"val/0.png": PICTURE}
    refused(write_folder(tmp_path / "b", flat), "are splits")


def test_classes_that_sound_like_splits(tmp_path: Path) -> None:
    files = {"train/a/0.png": PICTURE, "test/b/0.png": PICTURE, "bus/0.png": PICTURE}
    assert listed(write_folder(tmp_path / "a", files)).class_names == ["bus", "test", "train"]
    one = {"train/0.png": PICTURE, "trainer/0.png": PICTURE}
    assert listed(write_folder(tmp_path / "b", one)).class_names == ["train", "trainer"]


# --- names of classes --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PACKED)
def test_numbers_are_sorted_as_numbers(kind: str, tmp_path: Path) -> None:
    names = [str(n) for n in range(12)]
    found = listed(PACKED[kind](tmp_path, {f"{name}/a.png": PICTURE for name in names}))
    assert found.class_names == names
    classes = [str(Path(member.name).parent.name).removesuffix(".tar") for member in found.members]
    assert found.labels == [int(name) for name in classes]


@pytest.mark.parametrize("names", [range(1, 13), ["0", "1", "x"], ["00", "01", "10", "2"]])
def test_other_names_are_sorted_as_text(names: Any, tmp_path: Path) -> None:
    files = {f"{name}/a.png": PICTURE for name in names}
    found = listed(write_folder(tmp_path / "in", files))
    assert found.class_names == sorted(str(name) for name in names)


def test_two_unicode_forms_of_a_name_are_one_class(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "grün") for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    files = {f"{form}/{i}.png": PICTURE for i, form in enumerate(forms)} | {"rot/0.png": PICTURE}
    for path in (write_folder(tmp_path / "in", files), write_zip(tmp_path / "in.zip", files)):
        found = listed(path)
        assert found.class_names == [forms[0], "rot"] and sorted(found.labels) == [0, 0, 1]


JUNK = (
    *(
        "@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "$RECYCLE.BIN/0.png",
        "System Volume Information/0.png",
    ),
    *("lost+found/0.png", "__MACOSX/c0/0.png", ".thumbnails/0.png", "$Recycle.Bin/0.png"),
)


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("below", ["", "c1/"])
def test_junk_is_neither_class_nor_data(kind: str, below: str, tmp_path: Path) -> None:
    found = listed(PACKED[kind](tmp_path, FILES | {below + name: PICTURE for name in JUNK}))
    assert found.class_names == ["c0", "c1", "c2"] and len(found.members) == len(FILES)
    assert found.ignored == {}


def test_junk_is_not_entered(tmp_path: Path) -> None:
    """A system's folders are closed to users."""
    source = write_folder(tmp_path / "in", FILES)
    (source / "lost+found").mkdir(mode=0)
    (source / ".Trash-1000").symlink_to("/root/nowhere")
    assert len(listed(source).members) == len(FILES)
    assert list_members(source, "folder").folders == {"c0", "c1", "c2"}


# --- names in zips -----------------------------------------------------------------------------


def unmarked_zip(path: Path, names: list[bytes], system: int) -> Path:
    """A zip whose names are these bytes, without the flag that they are UTF-8."""
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(len(names)):
            info = zipfile.ZipInfo(f"{i:0{len(names[i])}}")
            info.create_system = system
            archive.writestr(info, PICTURE)
    content = path.read_bytes()
    for i, name in enumerate(names):
        content = content.replace(f"{i:0{len(name)}}".encode(), name)
    path.write_bytes(content)
    return path


def test_names_of_unknown_character_set_are_refused(tmp_path: Path) -> None:
    classes = ["汽车", "一些"]  # the bytes of the second are UTF-8, too
    gbk = [f"{name}/0.png".encode("gbk") for name in classes]
    path = unmarked_zip(tmp_path / "gbk.zip", gbk, 0)
    refused(path, r"gbk\.zip: the name b'\\xc6.*' is not UTF-8, .*`unzip -O gbk`.*give the folder")
    refused(unmarked_zip(tmp_path / "one.zip", gbk[1:], 0), "its character set is not known")
    refused(unmarked_zip(tmp_path / "unix.zip", gbk[:1], 3), "its character set is not known")
    utf8 = unmarked_zip(tmp_path / "utf8.zip", [f"{c}/0.png".encode() for c in classes], 3)
    assert listed(utf8).class_names == sorted(classes)
    marked = write_zip(tmp_path / "marked.zip", {f"{c}/0.png": PICTURE for c in classes})
    assert listed(marked).class_names == sorted(classes)
    broken = marked.read_bytes().replace("汽车".encode(), b"\xff" * 6)
    (tmp_path / "broken.zip").write_bytes(broken)
    refused(tmp_path / "broken.zip", "not a whole zip")


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    labels = [[name, int(name[1])] for name in FILES] + [["c0/0.png", 1]]
    files = FILES | {"dataset.json": json.dumps({"labels": labels}).encode()}
    refused(write_zip(tmp_path / "a.zip", files), r"dataset\.json: 1 files named twice: c0/0\.png")
    deep = FILES | {"dataset.json": b"[" * 100_000}
    refused(write_zip(tmp_path / "b.zip", deep), "not valid JSON")
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "c.zip", "w") as z,
    ):
        z.writestr("c0/0.png", PICTURE)
        z.writestr("c0/0.png", b"")
    refused(tmp_path / "c.zip", r"two files c0/0\.png")


# --- archives that lie -------------------------------------------------------------------------


@pytest.fixture
def in_time() -> Iterator[None]:
    """Ends a test that would never return."""

    def stop(*_: Any) -> None:
        raise TimeoutError("it does not return")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def odd_tar(path: Path, **about: Any) -> Path:
    """A good member and one that says of itself what it likes."""
    first, second = tarfile.TarInfo("c0/0.png"), tarfile.TarInfo("c1/0.png")
    first.size = 512
    for key, value in about.items():
        setattr(second, key, value)
    kind = tarfile.PAX_FORMAT if "pax_headers" in about else tarfile.GNU_FORMAT
    blocks = first.tobuf(), bytes(512), second.tobuf(cast(Any, kind)), bytes(2048)
    path.write_bytes(b"".join(blocks))
    return path


@pytest.mark.parametrize(
    "about",
    [
        {"size": -1024},
        {"size": -512},
        {"size": -(2**40)},
        {"pax_headers": {"size": "-2048"}},
        {"size": -1024, "type": tarfile.GNUTYPE_LONGNAME},
        {"size": -1024, "type": tarfile.XHDTYPE},
        {"size": -1024, "type": tarfile.DIRTYPE},
    ],
)
def test_a_negative_size_ends(in_time: None, about: dict[str, Any], tmp_path: Path) -> None:
    refused(odd_tar(tmp_path / "in.tar", **about), "not a whole, uncompressed tar")


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "in.tar", FILES)
    content = bytearray(path.read_bytes())
    at = content.index(b"c2/0.png")
    content[at + 3] ^= 1
    path.write_bytes(content)
    refused(path, f"not a whole, uncompressed tar .damaged at byte {at}")
    nested = {"a.tar": bytes(content), "b.tar": write_tar(tmp_path / "b.tar", FILES).read_bytes()}
    refused(write_tar(tmp_path / "out.tar", nested), "damaged at byte")


def lying_zip(path: Path, claimed: int) -> Path:
    """Its first file has another size than its directory says."""
    write_zip(path, FILES | {"c0/0.png": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    size = struct.pack("<I", 10_000_000)
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, struct.pack("<I", claimed)))
    return path


@pytest.mark.parametrize(("claimed", "word"), [(500, "more"), (0, "more"), (20_000_000, "less")])
def test_a_file_unpacks_to_what_its_zip_says(claimed: int, word: str, tmp_path: Path) -> None:
    path = lying_zip(tmp_path / "in.zip", claimed)
    member = next(m for m in listed(path).members if m.name == "c0/0.png")
    with pytest.raises(ValueError, match=f"unpacks to {word} than the {claimed} bytes"):
        read_member(path, member)
    with pytest.raises(UserError, match=r"1 of 18 images are bad, such as c0/0\.png: unpacks to"):
        prepare_images(settings(path), tmp_path / "prepared")


def test_a_stored_file_has_one_size(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "in.zip", FILES)
    size = struct.pack("<II", len(PICTURE), len(PICTURE))
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<II", len(PICTURE), 10**6)))
    refused(path, "has two sizes")


def test_memory_is_bounded_by_the_directory(tmp_path: Path) -> None:
    import tracemalloc

    path = lying_zip(tmp_path / "in.zip", 500)
    member = next(m for m in listed(path).members if m.name == "c0/0.png")
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to more"):
        read_member(path, Member(*member))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
