"""A trained model behind one call, in the manner of diffusers' pipelines."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn

from mclr.device import CPU
from mclr.errors import UserError
from mclr.inference.fits import check_fits
from mclr.inference.folder import CONFIG, FILES, find_folder, read_config
from mclr.inference.folder import copy as copy_file
from mclr.inference.inputs import image_seeds, label_numbers
from mclr.models.dial import turned
from mclr.models.drawing import draw_images
from mclr.models.families import make_family
from mclr.models.family import Family, load_network
from mclr.models.own.family import OwnFamily, made_of

OutputType = Literal["pil", "tensor"]


@dataclass(frozen=True)
class Drawn:
    """What a pipeline drew: images, and of each the seed and label that give it again.

    images: PIL images (mode L or RGB), or uint8 (N, C, H, W) on the CPU.
    """

    images: list[Image.Image] | Tensor
    seeds: list[int]
    labels: list[int]


class ClassConditionalPipeline:
    """Draws images of classes with a model of this project: EDM2, VAR, a network of diffusers.

    An image depends on weights, seed, label and sampler settings; with the same number of CPU
    threads and in the same batches it is the image of the workflow's sampling job to the bit, and
    in other batches up to rounding.

    Args:
        folder: a model folder (``mclr.inference.folder``); its files must stay where they are.
        device: where the networks compute.
        family: the class of a folder of one's own family, whose code is not in the folder.

    Raises:
        UserError: a file is missing, damaged or of a newer format; no such device; a folder of
            one's own family without its class.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device | str = CPU,
        family: type[OwnFamily] | None = None,
    ) -> None:
        self.folder, self.config = folder, read_config(folder)
        self._own = self._checked_family(family)
        self._load(_checked(device))

    def _checked_family(self, family: type[OwnFamily] | None) -> type[OwnFamily] | None:
        if self.config.is_own and family is None:
            raise UserError(
                f"{self.folder / CONFIG}: a model of somebody's own family. Its code is not in the "
                "folder, and none that a folder names is run: in Python give its class, "
                "ClassConditionalPipeline.from_pretrained(folder, family=TheClass), and to "
                "`mclr draw` --family path/to/file.py:TheClass"
            )
        if family is not None and not self.config.is_own:
            raise UserError(
                f"family {family.__name__}: {self.folder / CONFIG} is of the family "
                f"{self.config.network['family']}, whose code is known; leave out family"
            )
        return family

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: torch.device | str = CPU,
        family: type[OwnFamily] | None = None,
    ) -> ClassConditionalPipeline:
        """The pipeline of a local folder, or of an id of the Hugging Face Hub.

        The latter needs the package huggingface_hub; ``revision`` is a branch, tag or commit
        there. Raises UserError as the class does, or if there is neither such a folder nor id.
        """
        return cls(find_folder(name, revision), device, family)

    def _load(self, device: torch.device) -> None:
        tokenizer = self.folder / self.config.tokenizer_file if self.config.has_tokenizer else None
        try:
            check_fits(self.folder, self.config)
            family = self._make_family(tokenizer, device)
        except (ValidationError, KeyError, TypeError) as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            said = said.removeprefix("Value error, ")
            raise UserError(
                f"{self.folder / CONFIG}: network: {said}; export or download it again"
            ) from None
        self.device, self._family = device, family
        self._net = family.frozen(load_network(family, self.folder / self.config.weights_file))
        self._kept: tuple[float, nn.Module] | None = None

    def _make_family(self, tokenizer: Path | None, device: torch.device) -> Family:
        if self._own:
            return made_of(self._own, self.config.spec, self.config.manifest, device)
        return make_family(self.config.spec, self.config.manifest, tokenizer, device)

    def to(self, device: torch.device | str) -> ClassConditionalPipeline:
        """This pipeline, from now on computing on ``device``."""
        wanted = _checked(device)
        if wanted != self.device:
            self._load(wanted)
        return self

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Copy the model's files to another folder; files of the same names are replaced."""
        target = Path(folder)
        if target.resolve() == self.folder.resolve():
            return
        # Without its configuration a folder is no model: no mixture of two can be loaded.
        if (target / CONFIG).is_file():
            (target / CONFIG).unlink()
        for name in FILES:
            if (self.folder / name).is_file():
                copy_file(self.folder / name, target / name)

    @property
    def class_names(self) -> list[str]:
        """Name of each class, by its number."""
        return list(self.config.images.class_names)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Any,
        generator: Any = None,
        guidance: float = 0.0,
        *,
        dial: float | None = None,
        batch_size: int | None = None,
        output_type: OutputType = "pil",
        progress: Callable[[int], None] = lambda done: None,
        **sampler: float,
    ) -> Drawn:
        """Draw one image for each label.

        Args:
            class_labels: numbers or names of classes, one or several (or a tensor of numbers).
            generator: seeds of the images: one (the images after the first have the next ones),
                a list with one for each image, a ``torch.Generator`` that draws them, or None.
            guidance: scale γ of classifier-free guidance; 0 is none and half the work.
            dial: where the dial of the network stands, if it has one (``config.dial``): above 0,
                which is the most guidance, and up to 1, which is none. Its default if absent.
            batch_size: images drawn at once, that of the workflow if absent.
            output_type: ``pil`` or ``tensor``, see ``Drawn``.
            progress: called with the number of images that have been added.
            sampler: settings other than the model's own: ``num_steps``, ``sigma_min``,
                ``sigma_max``, ``rho``, ``S_churn`` of EDM2, ``top_k``, ``top_p`` of VAR; of a
                network of diffusers ``num_steps`` of its scheduler, or those of EDM2.

        Raises:
            UserError: an argument that makes no sense for this model; or images that are not
                finite, with their seeds.
        """
        labels = label_numbers(class_labels, self.config.images.class_names)
        seeds = image_seeds(generator, len(labels))
        self._check(guidance, batch_size, output_type)
        net = self._turned(dial)
        family, size = self._sampling(sampler), batch_size or self.config.batch
        parts = []
        for i in range(0, len(labels), size):
            some = seeds[i : i + size]
            classes = torch.tensor(labels[i : i + size])
            images = draw_images(family, net, some, classes, guidance)
            parts.append(images.checked(self.folder).cpu())
            progress(len(some))
        drawn = torch.cat(parts)
        return Drawn(drawn if output_type == "tensor" else to_pil(drawn), seeds, labels)

    def dial_at(self, dial: float | None = None) -> float | None:
        """Where the dial stands if a call says ``dial``; None of a model without one.

        Raises:
            UserError: a value, and the model has no dial; or a value that its dial does not have.
        """
        own = self.config.dial
        if own is None:
            if dial is not None:
                raise UserError(
                    f"dial {dial:g}: this model has none; leave it out (gft with `beta: input` "
                    "trains one that has)"
                )
            return None
        value = own.default if dial is None else dial
        if not own.low < value <= own.high:
            raise UserError(
                f"dial {value:g}: expected a value above {own.low:g} and up to {own.high:g}, "
                f"where {own.high:g} is no guidance; {own.default:g} is this model's default"
            )
        return value

    def _turned(self, dial: float | None) -> nn.Module:
        """The network with its dial at a value; the one that was asked for last is kept."""
        value = self.dial_at(dial)
        if value is None:
            return self._net
        if self._kept is None or self._kept[0] != value:
            self._kept = value, turned(self._net, value)
        return self._kept[1]

    def _check(self, guidance: float, batch_size: int | None, output_type: str) -> None:
        if not (math.isfinite(guidance) and guidance >= 0):
            raise UserError(f"guidance {guidance}: expected 0 (none) or a scale above it")
        if guidance > 0 and not self.config.null_label:
            raise UserError(
                f"guidance {guidance}: this model was trained without dropping labels, so it has "
                "no null label to guide it; use guidance 0"
            )
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size {batch_size}: expected at least 1")
        if output_type not in ("pil", "tensor"):
            raise UserError(f"output_type {output_type!r}: expected pil or tensor")

    def _sampling(self, changes: dict[str, float]) -> Family:
        """The family, with changes of its sampler's settings."""
        if not changes:
            return self._family
        own = self.config.sampler
        if own is None:
            raise UserError(
                f"sampler setting {next(iter(changes))!r} is unknown, this model's family has none"
            )
        known = own.model_dump()
        for name in changes:
            if name not in known:
                raise UserError(
                    f"sampler setting {name!r} is unknown, this model has {', '.join(known)}"
                )
        try:
            settings = type(own).model_validate(known | changes)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(f"sampler setting {where or ''}: {first['msg']}") from None
        changed = cast(Any, copy.copy(self._family))
        changed.sampler = settings.model_dump() if self._own else settings
        return cast(Family, changed)


def to_pil(images: Tensor) -> list[Image.Image]:
    """PIL images, grey or RGB, of uint8 images (N, C, H, W) with 1 or 3 channels."""
    arrays = images.permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(a[:, :, 0] if a.shape[2] == 1 else a) for a in arrays]


def _checked(device: torch.device | str) -> torch.device:
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        first = str(error).split("\n")[0]
        raise UserError(f"device {device!r}: {first}; use cpu or cuda") from None
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {device}: torch finds {torch.cuda.device_count()} CUDA GPUs; use cpu"
        )
    return wanted
