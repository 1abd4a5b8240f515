"""The licence of what a model is made of, and under which one its weights may be shared.

This is no legal advice: it holds what the licences' own texts say of works that are made of a work,
and refuses where that is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from mclr.data.raw import VERSIONS
from mclr.data.releases import licences
from mclr.errors import UserError
from mclr.models.config import Model
from mclr.settings.origin import Released

MAX_CARD_BYTES = 1 << 20
TUNED = "fine-tuned weights"
"""Role of weights that others fine-tuned."""


@dataclass(frozen=True)
class Licence:
    """Its id on the Hugging Face Hub, and the ids that what is made of it may have; None: any."""

    id: str
    allowed: frozenset[str] | None = None


_SHARE_ALIKE = "cc-by-nc-sa-4.0"
KNOWN = {
    "MIT": Licence("mit"),
    "Apache-2.0": Licence("apache-2.0"),
    "CC BY 4.0": Licence("cc-by-4.0"),
    # Section 2(a)(1) of CC BY-NC 4.0: adapted material is shared for non-commercial purposes only.
    "CC BY-NC 4.0": Licence("cc-by-nc-4.0", frozenset({"cc-by-nc-4.0", _SHARE_ALIKE})),
    # Section 3(b)(1) of CC BY-NC-SA 4.0: adapted material is shared under the same licence.
    "CC BY-NC-SA 4.0": Licence(_SHARE_ALIKE, frozenset({_SHARE_ALIKE})),
}
"""Licences by their names in ``data/versions.csv``."""
_BY_ID = {licence.id: licence for licence in KNOWN.values()}


@dataclass(frozen=True)
class Part:
    """What others published of a model: base, fine-tuned weights, or tokenizer.

    stated: its licence, '' if none is known.
    """

    role: str
    name: str
    stated: str

    @property
    def licence(self) -> Licence | None:
        """What is known of it."""
        return KNOWN.get(self.stated) or _BY_ID.get(self.stated)


def parts_of(model: Model, tuned: Released | None = None) -> list[Part]:
    """What is in the folder of an exported model and was published by others.

    tuned: its weights, where others fine-tuned them.
    """
    found = {role: part for role, part in model.releases.items() if role in ("base", "tokenizer")}
    found |= {TUNED: tuned} if tuned else {}
    return [
        Part(role, Path(part.released).name, stated_licence(part.released))
        for role, part in found.items()
    ]


def stated_licence(released: str) -> str:
    """The licence of a published file: of its row, or of the card beside a local copy; '' if none.

    released: a name in ``data/versions.csv``, a file, or the folder of a model.
    """
    if found := licences(released):
        return " / ".join(found)
    place = Path(released)
    folders = [place, place.parent, place.parent.parent] if place.exists() else []
    for folder in folders:
        card = folder / "README.md"
        if card.is_file() and card.stat().st_size <= MAX_CARD_BYTES:
            return _of_card(card.read_text(encoding="utf-8", errors="replace"))
    return ""


def _of_card(text: str) -> str:
    """The key ``license`` of a card's front matter."""
    if not text.startswith("---\n"):
        return ""
    try:
        content = yaml.safe_load(text.split("---\n", 2)[1])
    except yaml.YAMLError:
        return ""
    found = content.get("license") if isinstance(content, dict) else None
    return found if isinstance(found, str) and found.isprintable() else ""


def licence_for(parts: list[Part], wanted: str | None) -> str | None:
    """The id in the card: the one that is wanted, or the strictest of the parts; None: not set."""
    if wanted:
        return wanted
    known = [part.licence for part in parts]
    bases = [part.licence for part in parts if part.role in ("base", TUNED)]
    if not bases or not all(known):
        return None
    strict = [licence for licence in known if licence and licence.allowed is not None]
    chosen = min(strict, key=lambda licence: len(licence.allowed or ())) if strict else bases[0]
    return chosen.id if chosen else None


def check_sharing(parts: list[Part], licence: str | None, despite: bool) -> None:
    """Whether weights may be shared under a licence.

    despite: the user has said that they may, whatever is known here.

    Raises:
        UserError: no licence is chosen; that of a part is not known, or forbids this one.
    """
    for part in [] if despite else parts:
        what = f"{part.role} {part.name}"
        if part.licence is None:
            raise UserError(
                f"push: the licence of the {what} is {part.stated or 'not stated'}, and whether it "
                f"may be shared is not known here; read it, add it to {VERSIONS.name} or to the "
                "card beside it, or say --despite-licence"
            )
        if licence and part.licence.allowed is not None and licence not in part.licence.allowed:
            raise UserError(
                f"push: the {what} is under {part.licence.id}, which forbids to share what is made "
                f"of it under {licence}; use --licence {part.licence.id}, or, if its authors allow "
                "you more, --despite-licence"
            )
    if licence is None:
        raise UserError(
            "push: the weights have no licence; choose one that those of the data allow, "
            "such as --licence mit"
        )
