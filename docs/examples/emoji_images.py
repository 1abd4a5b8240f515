"""Sort pictures of npm's package emoji-datasource-twitter into one folder per class.

npm pack emoji-datasource-twitter@16.0.0
python docs/examples/emoji_images.py emoji-datasource-twitter-16.0.0.tgz emoji

They are Twemoji's: colour on transparent ground, 64×64 pixels, by Twitter and others, CC BY 4.0.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CLASSES = {
    "face": ("face-",),
    "flag": ("country-flag",),
    "hand": ("hand-", "hands"),
    "person": ("person-role",),
}
"""How the names of the sub-categories begin that make up a class."""


def pictures(emoji: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Class and file name of each picture, in every colour of skin."""
    for entry in emoji:
        for name, beginnings in CLASSES.items():
            if entry["subcategory"].startswith(beginnings):
                for variant in (entry, *entry.get("skin_variations", {}).values()):
                    if variant["has_img_twitter"]:
                        yield name, Path(variant["image"]).name


def write(archive: Path, folder: Path) -> None:
    """``face/1f600.png``, ``flag/1f1e6-1f1e8.png``, …"""
    with tarfile.open(archive) as package:

        def read(member: str) -> bytes:
            stream = package.extractfile(f"package/{member}")
            return stream.read() if stream else b""

        for name, image in pictures(json.loads(read("emoji.json"))):
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            (place / image).write_bytes(read(f"img/twitter/64/{image}"))


if __name__ == "__main__":
    try:
        write(Path(sys.argv[1]), Path(sys.argv[2]))
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}: expected npm's package emoji-datasource-twitter ({error})")
