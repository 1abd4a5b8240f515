"""The folder of a model that is ready to use: which files it has, and where it is found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.extras import require
from mclr.files import atomic, write_json
from mclr.inference.hub import HUB_ID, pull
from mclr.models.dial import NEUTRAL
from mclr.models.diffusers.architecture import DitArchitecture, UnetArchitecture
from mclr.models.diffusers.config import SchedulerSampler
from mclr.models.diffusers.folder import INDEX, SCHEDULER, SCHEDULER_CONFIG, VAE
from mclr.models.diffusers.folder import WEIGHTS as PART_WEIGHTS
from mclr.models.edm2.config import Edm2Sampler
from mclr.models.own.config import OwnSampler
from mclr.models.spec import DiffusersSpec, ModelSpec
from mclr.models.var.config import VarSampler
from mclr.settings.bounded import bounded_json
from mclr.settings.section import Count, Decoding, Precision, Section, Side, plain

FORMAT = 2
"""Version of the folder's format; raised when an older ``mclr`` could not use a newer folder."""
WITHOUT_DIAL = 1
"""What a folder without a dial says, which every version can use."""

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.safetensors"
PARTS = {"dit": DitArchitecture.part, "unet": UnetArchitecture.part}
CARD = "README.md"
SAMPLES = "samples.png"
OF_DIFFUSERS = (
    INDEX,
    f"{SCHEDULER}/{SCHEDULER_CONFIG}",
    *(f"{part}/{file}" for part in (*PARTS.values(), VAE) for file in (CONFIG, PART_WEIGHTS)),
)
"""Of a network of diffusers, in the place of the two files of weights: as diffusers loads them."""
FILES = (WEIGHTS, TOKENIZER, *OF_DIFFUSERS, CARD, SAMPLES, CONFIG)
"""All files of a folder; the configuration comes last, so that a folder with one is whole."""

FAMILIES = ("edm2", "var", "diffusers")
"""Families whose code comes with this package. A folder is somebody else's: of any other family it
loads with a class that the caller gives, and never with code that the folder names."""

OWN = "own"
SAMPLERS: dict[str, type[Section]] = {
    "edm2": Edm2Sampler,
    "var": VarSampler,
    "diffusers": Edm2Sampler,
    OWN: OwnSampler,
}


class Images(Section):
    """What the model draws: square images, and the name of each class."""

    channels: Annotated[int, Field(ge=1, le=64)]
    resolution: Side
    class_names: Annotated[list[str], Field(min_length=1)]


class DialConfig(Section):
    """A number that is set when images are drawn, and the strength of guidance it stands for.

    Above ``low`` and up to ``high``; ``default``: where the model was chosen by its FD.
    """

    name: Literal["beta"] = "beta"
    low: Annotated[float, Field(ge=0)] = 0.0
    high: Annotated[float, Field(le=1)] = NEUTRAL
    default: Annotated[float, Field(gt=0, le=1)]
    meaning: str = "classifier-free guidance at γ = 1/β − 1"


class ModelConfig(Section):
    """``config.json``: everything but weights that is needed to draw, and what was trained how."""

    format: int
    mclr: str
    """Version of the package that wrote the folder."""
    network: dict[str, Any]
    """Family and architecture, as ``mclr.models.families.make_family`` takes them.

    Of a family of one's own ``{"family": "own", "options": {…}}``: what its class is given.
    """
    precision: Precision
    decoding: Decoding | None = None
    sampler: SerializeAsAny[Section] | None = None
    """Settings of the sampler; of a family of one's own those that its class has, if any."""
    dial: DialConfig | None = None
    """Of a network that takes a number beside the label."""
    images: Images
    null_label: bool
    """Whether training dropped labels, so that the network can be guided by its null label."""
    batch: Count
    """Images that the workflow draws at once: in the same batches images are equal to the bit."""
    training: dict[str, Any]
    """What it was trained with; nothing of it is needed to draw."""

    @field_validator("network")
    @classmethod
    def _known(cls, network: dict[str, Any]) -> dict[str, Any]:
        family = network.get("family")
        if family == OWN and set(network) - {"family", "options"}:
            raise ValueError("of somebody's own family it has `options` alone, and names no code")
        if family not in (*FAMILIES, OWN):
            raise ValueError(f"family {family!r} is unknown; choose from {', '.join(FAMILIES)}")
        if family == "diffusers":
            try:
                DiffusersSpec.model_validate(network)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise ValueError(f"{where}: {first['msg']}") from None
        return network

    @field_validator("sampler", mode="before")
    @classmethod
    def _of_family(cls, sampler: Any, info: ValidationInfo) -> Section | None:
        if isinstance(sampler, Section):
            return sampler
        family = info.data.get("network", {}).get("family")
        if sampler is None and family in FAMILIES:
            raise ValueError(f"{family} needs its settings")
        known = SAMPLERS.get(family)
        if family == "diffusers" and isinstance(sampler, dict) and "kind" in sampler:
            known = SchedulerSampler
        return known.model_validate(sampler) if known and sampler is not None else None

    @model_validator(mode="after")
    def _one_dial(self) -> ModelConfig:
        if bool(self.network.get("dial")) != (self.dial is not None):
            raise ValueError("network.dial and dial: a network with a dial has both")
        return self

    @property
    def is_own(self) -> bool:
        """Whether the family is one whose class the caller has to give."""
        return bool(self.network["family"] == OWN)

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder has a tokenizer (VAR) or autoencoder (latents) too."""
        return "tokenizer" in self.network or self.network.get("autoencoder") is not None

    @property
    def weights_file(self) -> str:
        """Where the folder has the weights."""
        if not self.is_of_diffusers:
            return WEIGHTS
        return f"{PARTS[self.network['model']['kind']]}/{PART_WEIGHTS}"

    @property
    def tokenizer_file(self) -> str:
        """Where it has a tokenizer or autoencoder, if any."""
        return f"{VAE}/{PART_WEIGHTS}" if self.is_of_diffusers else TOKENIZER

    @property
    def is_of_diffusers(self) -> bool:
        """Whether the folder is one that diffusers loads, too."""
        return bool(self.network["family"] == "diffusers")

    @property
    def manifest(self) -> Manifest:
        """What a family must know of the data."""
        images, names = self.images, tuple(self.images.class_names)
        return Manifest(images.channels, images.resolution, len(names), names, {})

    @property
    def spec(self) -> ModelSpec:
        """What ``make_family`` reads; ValidationError where the network is none of a family."""
        content = {"network": self.network, "precision": self.precision}
        sampler = plain(self.sampler) if self.sampler else None
        return ModelSpec.model_validate(content | {"sampler": sampler, "decoding": self.decoding})


def read_config(folder: Path) -> ModelConfig:
    """The configuration of a model folder, whose files are all there.

    Raises:
        UserError: a file is missing or damaged, or was written by a newer ``mclr``.
    """
    path = folder / CONFIG
    _check_file(path)
    try:
        content = bounded_json(path)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); export or download it again") from None
    version = content.get("format") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{path}: no `format`, so this is no model that `mclr export-model` wrote")
    if version > FORMAT:
        raise UserError(
            f"{path}: written by mclr {content.get('mclr')} in format {version}, this mclr knows "
            f"formats up to {FORMAT}; install that version or a newer one"
        )
    try:
        config = ModelConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: {where}{said}; export or download it again") from None
    files = [config.weights_file, *([config.tokenizer_file] if config.has_tokenizer else [])]
    for name in files:
        _check_file(folder / name)
    return config


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(
            f"{path}: file is missing; a model folder has {CONFIG}, {WEIGHTS} and, for VAR and "
            f"models of latents, {TOKENIZER} (of diffusers, its own folders). Write one with "
            "`mclr export-model`, or copy it again"
        )


def write_folder(
    folder: Path, config: ModelConfig, weights: Path, tokenizer: Path | None
) -> list[Path]:
    """Write ``config.json`` and copy the weights beside it; gives the files written."""
    if config.is_of_diffusers:
        written = _write_diffusers(folder, config, weights, tokenizer)
    else:
        written = [copy(weights, folder / WEIGHTS)]
    if tokenizer and not config.is_of_diffusers:
        written.append(copy(tokenizer, folder / TOKENIZER))
    content = config.model_dump(mode="json")
    for key in ("decoding", "dial"):
        if content[key] is None:
            del content[key]
    write_json(folder / CONFIG, content)
    return [*written, folder / CONFIG]


def _write_diffusers(
    folder: Path, config: ModelConfig, weights: Path, autoencoder: Path | None
) -> list[Path]:
    """The files of a network of diffusers, as its ``from_pretrained`` loads them."""
    require("diffusers")
    from mclr.models.diffusers.checkpoint import write_model
    from mclr.models.families import make_family

    network = DiffusersSpec.model_validate(config.network)
    family: Any = make_family(config.spec, config.manifest, autoencoder)
    names = config.images.class_names
    return write_model(folder, network, family.drawn, names, weights, autoencoder)


def copy(source: Path, target: Path) -> Path:
    """Copy a file whole, or leave ``target`` as it was; gives ``target``."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def find_folder(name: str | os.PathLike[str], revision: str | None = None) -> Path:
    """The local folder of a model: ``name`` itself, or what a hub has under that id.

    revision: branch, tag or commit on the hub, which may also follow the id after ``@``.

    Raises:
        UserError: no such folder and no such id, or the hub cannot be used.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not isinstance(name, str) or not HUB_ID.fullmatch(name):
        raise UserError(
            f"{name}: no such folder; expected one that `mclr export-model` wrote, or the id of a "
            "model on the Hugging Face Hub such as someone/their-model"
        )
    return pull(name, list(FILES), revision)
