"""An objective of one's own: a class in a file of the user's, named in the configuration.

``objective: {implementation: path/to/file.py:Class, …}``; the other keys are the settings of the
class. Its file is run where runs are planned and trained. What is said of it (label, colour,
equation …) is kept beside its runs, so that tables, figures and cards need no code of anybody.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, ValidationError

from mclr.errors import UserError
from mclr.files import sha256 as sha256_of
from mclr.objectives.method import Method
from mclr.objectives.objective import Given, Needs, Objective
from mclr.settings.implementation import find_class, source_of
from mclr.settings.section import Section, Setting, whole

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.loss import Loss

PLACE = "mclr.objectives.OwnObjective"


def _shown(label: str) -> str:
    """A label for tables, legends and terminals; ValueError if it could do something there."""
    is_blank = bool(label) and not label.strip("+ ")
    if is_blank or not label.isprintable() or set(label) & set("<>[]|\\`*$"):
        raise ValueError("expected letters, digits, spaces and signs such as + - ( ) . alone")
    return label


def _written(text: str) -> str:
    """A text for cards and notes; ValueError if it could be more than text there."""
    if not all(line.isprintable() for line in text.splitlines()) or "```" in text:
        raise ValueError("expected text without control characters and ```")
    return text


class Entry(Section):
    """What is said of an objective of somebody's own, as its runs record it."""

    label: Annotated[str, Field(max_length=40), AfterValidator(_shown)] = ""
    colour: Annotated[str, Field(pattern=r"^(#[0-9a-f]{6})?$")] = ""
    source: Annotated[str, Field(max_length=400), AfterValidator(_written)] = ""
    meaning: Annotated[str, Field(max_length=2000), AfterValidator(_written)] = ""
    equation: Annotated[str, Field(max_length=2000), AfterValidator(_written)] = ""
    in_table: bool = True
    saturates: bool = False

    def method(self, implementation: str) -> Method:
        """The entry of the catalogue; what it does not say follows from the class's name."""
        cls = implementation.rpartition(":")[2]
        suffix = self.label or f"+{cls}"
        title, meaning = suffix.lstrip("+ "), self.meaning or "An objective of its author's own."
        return Method(
            method_of(implementation),
            suffix,
            self.colour,
            "",
            "",
            in_table=self.in_table,
            title=title,
            source=self.source or f"class {cls}",
            meaning=meaning,
            equation=self.equation,
            note=(f"{title}: {meaning}", self.equation, self.source),
            trained=True,
            saturates=self.saturates,
        )


class OwnObjective(Objective):
    """Base class of objectives of one's own: fields are settings, ``loss`` is to be written.

    A setting ``K`` asks for so many partners of each sample, one ``n_negatives`` (in the
    configuration, not a default) for samples of the frozen network; override ``needs`` for more.
    """

    is_own: ClassVar[bool] = True
    label: ClassVar[str] = ""
    """In tables and legends, after the model; ``+`` and the name of the class if empty."""
    colour: ClassVar[str] = ""
    """``#rrggbb``; one that is free if empty."""
    source: ClassVar[str] = ""
    """Where it comes from, such as a paper."""
    meaning: ClassVar[str] = ""
    """A sentence for model cards and MLflow."""
    equation: ClassVar[str] = ""
    in_table: ClassVar[bool] = True
    """Whether it has a row in Table 1."""
    saturates: ClassVar[bool] = False
    """Whether the loss has a lower bound, so that training comes to rest by itself."""

    @property
    def method(self) -> str:
        return _kebab(type(self).__name__)

    @property
    def shown(self) -> str:
        """Its label."""
        return self.label or f"+{type(self).__name__}"

    @property
    def needs(self) -> Needs:
        """Partners and negatives as the settings say, and the frozen network's likelihoods."""
        settings = self.model_dump()
        return Needs(settings.get("K", 0), True, settings.get("n_negatives", 0))

    @property
    def facts(self) -> dict[str, Any]:
        return {"entry": entry_of(type(self)).model_dump()}


class Own(Objective):
    """An objective of one's own: a class derived from ``mclr.objectives.OwnObjective``.

    The other keys are its settings; ``mclr plan`` and Snakemake check them against the class.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Annotated[Setting, AfterValidator(whole)]] = Field(init=False)
    name: Literal["own"] = "own"
    implementation: Annotated[str, Field(pattern=r"^.+\.py:[A-Za-z]\w*$")]
    """``path/to/file.py:Class``."""
    _entry: Entry = PrivateAttr(default_factory=Entry)

    @property
    def method(self) -> str:
        return method_of(self.implementation)

    @property
    def needs(self) -> Needs:
        """What the configuration alone tells: whether samples of the frozen network are drawn."""
        wanted = (self.__pydantic_extra__ or {}).get("n_negatives", 0)
        return Needs(negatives=int(wanted) if isinstance(wanted, int | float) else 0)

    def loss(self, given: Given, part: Tensor) -> Loss:
        return self.loaded().loss(given, part)

    @property
    def entry(self) -> Method:
        """Its entry of the catalogue, as far as it is known."""
        return self._entry.method(self.implementation)

    def with_entry(self, entry: Entry) -> Own:
        """The same, with what its runs have recorded of it."""
        found = self.model_copy()
        found._entry = entry
        return found

    @property
    def code(self) -> dict[str, str]:
        return {"objective_sha256": sha256_of(source_of(self.implementation))}

    def loaded(self, sha256: str = "") -> OwnObjective:
        """The class with these settings; its file is run.

        sha256: of the file that is meant, if another one is an error.

        Raises:
            UserError: file, class or settings are not as they should be.
        """
        found = self.code["objective_sha256"]
        if sha256 and found != sha256:
            raise UserError(
                f"implementation: {self.implementation}: was edited after this run was planned; "
                "start Snakemake again"
            )
        cls = _class_of(self.implementation, found)
        try:
            made = cls.model_validate(self.__pydantic_extra__ or {})
        except ValidationError as error:
            raise UserError(_described(cls, error.errors()[0])) from None
        if made.needs.dial:
            raise UserError(f"{cls.__name__}: Needs.dial is for gft alone, whose runs plan it")
        if made.needs.negatives != self.needs.negatives:
            raise UserError(
                f"n_negatives: {cls.__name__} needs {made.needs.negatives} samples of the frozen "
                "network; say so in the configuration, where the workflow sees it"
            )
        return made


def method_of(implementation: str) -> str:
    """The name of a method, from that of its class: ``my-ipo`` of ``MyIpo``."""
    return _kebab(implementation.rpartition(":")[2])


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", "-", name).lower().strip("-")


def entry_of(cls: type[OwnObjective]) -> Entry:
    """What a class says of itself; UserError if that cannot be shown."""
    try:
        return Entry.model_validate({key: getattr(cls, key) for key in Entry.model_fields})
    except ValidationError as error:
        item = error.errors()[0]
        raise UserError(f"implementation: {cls.__name__}.{item['loc'][0]}: {item['msg']}") from None


@cache
def _class_of(implementation: str, sha256: str) -> type[OwnObjective]:
    cls: type[OwnObjective] = find_class(implementation, OwnObjective, PLACE)  # type: ignore[type-abstract]
    if shadowed := ", ".join(sorted(cls.model_fields.keys() & Entry.model_fields.keys())):
        raise UserError(
            f"implementation: {implementation}: {shadowed}: would be a setting; write it without a "
            "type, or as ClassVar"
        )
    entry_of(cls)
    if missing := ", ".join(sorted(cls.__abstractmethods__)):
        raise UserError(f"implementation: {implementation}: write its {missing}")
    return cls


def _described(cls: type[OwnObjective], item: Any) -> str:
    """A mistake in the settings, in one line."""
    known = [field.alias or name for name, field in cls.model_fields.items()]
    key = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ";"
        return f"{key}: unknown setting{hint} {cls.__name__} has {', '.join(known) or 'none'}"
    if item["type"] == "missing":
        return f"{key}: required setting of {cls.__name__} is missing"
    return f"{key}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item.get('input')!r}"
