"""A choice of network and grid as the text of a configuration, each value with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import islice
from math import ceil
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mclr.cost.table import number as times
from mclr.new.given import GivenBase
from mclr.new.machine import Machine
from mclr.new.sizes import MOST_PASSES, WIDE, Grid, Size, is_large
from mclr.new.survey import Survey
from mclr.new.yaml_text import aligned, flow, number, plain, scalar

MOST_REFERENCE = 5_000
LEAST_REFERENCE = 2
"""Reference images of each class."""
EVEN = 1.1
"""Times as many images of the largest class as of the smallest, which chance alone may give."""
GRID_CLASSES = 10
HELD = 2
"""Jobs that hold all training images in memory and may run at a time."""

EFFICIENTNET_REFERENCE = 2_000
"""Reference images from which features of 1,280 numbers are worth comparing."""


@dataclass(frozen=True)
class Case:
    """What a configuration is for: its name and file, the images, the machine, the time."""

    name: str
    output: str
    found: Survey
    machine: Machine
    hours: float
    resolution: int | None = None
    """That the user wants; None: as large as the time allows."""
    flip: bool = False
    """Whether mirror images make sense; the user knows."""


@dataclass(frozen=True)
class Choice:
    """A network to train (or a base model that is there) and a grid; images of base training."""

    size: Size | GivenBase
    grid: Grid
    images: int = 0

    @property
    def base(self) -> GivenBase | None:
        return self.size if isinstance(self.size, GivenBase) else None

    @property
    def steps(self) -> int:
        """Of base training."""
        return max(1, self.images // self.size.batch) if isinstance(self.size, Size) else 0


def render(case: Case, choice: Choice, time: str = "?") -> str:
    """The text of the configuration; ``time``: how long all takes, in words."""
    values = {
        **{"case": case, "name": case.name, "output": case.output, "found": case.found},
        **{"size": None if choice.base else choice.size, "base": choice.base, "grid": choice.grid},
        **_header(case, time),
        **_data(case, choice),
        **_features(case, choice),
        **_model(case, choice),
        **_run(choice),
        **_evaluation(case, choice),
    }
    return aligned(_template().render(values))


@cache
def _template() -> Any:
    loader = PackageLoader("mclr.new", "")
    environment = Environment(
        loader=loader,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"number": number, "plain": plain, "scalar": scalar, "flow": flow}
    return environment.get_template("tier.yaml.j2")


def n_reference_of(found: Survey) -> int:
    """Images held out: a fifth, at most 5,000, but so many that two are of the smallest class.

    Of a class of m images at least ⌊m · held out / all⌋ are held out.
    """
    least = ceil(LEAST_REFERENCE * found.count / min(found.classes.values()))
    return max(least, min(found.count // 5, MOST_REFERENCE))


def is_even(found: Survey) -> bool:
    """Whether samples may have as many of each class; else FD would see that they do."""
    counts = found.classes.values()
    return max(counts) <= EVEN * min(counts)


def images_fit(case: Case, size: Size | GivenBase) -> bool:
    """Whether jobs can hold all training images in memory, as training a classifier does."""
    channels = 1 if case.found.is_grey else 3
    held = (case.found.count - n_reference_of(case.found)) * size.resolution**2 * channels
    return HELD * held <= case.machine.ram


def _header(case: Case, time: str) -> dict[str, Any]:
    found = case.found
    return {
        "title": f"One's own images: {found.count:,} of {len(found.classes)} classes.",
        "machine": case.machine.text,
        "cores": case.machine.jobs,
        "time": time,
        "limit": f"{case.hours:g}",
    }


def _data(case: Case, choice: Choice) -> dict[str, Any]:
    found, median = case.found, case.found.sides[1]
    if choice.base:
        channels, reason = choice.base.channels, "that of the base model"
    elif case.resolution:
        channels, reason = 1 if found.is_grey else 3, "yours (--resolution)"
    elif choice.size.resolution * 2 > median:
        channels = 1 if found.is_grey else 3
        reason = f"the largest power of 2 within the median short side, {median}"
    else:
        channels = 1 if found.is_grey else 3
        reason = f"ours: more (the median short side is {median}) would not be done in time"
    n_reference = n_reference_of(found)
    held = f"at most {MOST_REFERENCE:,}"
    if n_reference != min(found.count // 5, MOST_REFERENCE):
        held = f"{LEAST_REFERENCE} of the smallest class"
    elif n_reference < MOST_REFERENCE:
        held = "a fifth of the images"
    return {
        "resolution": choice.size.resolution,
        "resolution_reason": reason,
        "channels": channels,
        "n_reference": n_reference,
        "n_reference_reason": f"ours: {held}, held out; metrics compare with these",
        "flip": case.flip,
    }


def _features(case: Case, choice: Choice) -> dict[str, Any]:
    n_reference, resolution = n_reference_of(case.found), choice.size.resolution
    dimensions = next(d for d in (64, 32, 16) if n_reference >= 10 * d or d == 16)
    is_small = choice.grid.samples <= 400
    has_second = n_reference >= EFFICIENTNET_REFERENCE and resolution >= 32 and not is_small
    has_cnn = images_fit(case, choice.size)
    return {
        "has_cnn": has_cnn,
        "net": "cnn" if has_cnn else "efficientnet",
        "dimensions": dimensions,
        "cnn_steps": 400 if is_small else 2000 if resolution <= 32 else 1000,
        "efficientnet": min(224, max(48, resolution)) if has_second or not has_cnn else 0,
        "probe_images": min(10_000, case.found.count - n_reference),
    }


def _model(case: Case, choice: Choice) -> dict[str, Any]:
    size, base, side = choice.size, choice.base, choice.size.resolution
    family = base.family if base else "edm2"
    is_latent = base.is_latent if base else bool(getattr(size, "levels", ()))
    channels = int(base.network.get("model_channels", WIDE)) if base else size.channels
    precision = case.machine.precision(family, channels)
    fast = "ours: what this machine is fast in; named, so that every machine does the same"
    published = (-0.4, 1.0) if is_latent else (-0.8, 1.6)
    preset = "EDM2 ImageNet-512" if is_latent else "EDM2 ImageNet-64"
    if family == "diffusers" and is_latent:
        published, preset = (0.3, 1.0), "EDM2 ImageNet-512 + ln 2, for latents of deviation 1"
    name = base.label if base and base.label else family.upper()
    return {
        "model": family,
        "label": f"{name} ({'latents of ' if is_latent else ''}{side}×{side} pixels)",
        "precision": precision,
        "precision_reason": "ours" if precision == "float32" else fast,
        "noise": base.noise if base and base.noise else published,
        "noise_reason": "as in its training"
        if base and base.noise
        else f"{preset} (train_edm2.py)",
        "num_steps": size.num_steps if isinstance(size, Size) else 32 if is_large(size) else 16,
        "width_reason": "ours: 192–320 in the paper",
        "guidance_warning": _warning(base) if base else "",
        "order": _order(case.found),
        "autoencoder_steps": 4000,
        **_training(case, choice),
    }


def _training(case: Case, choice: Choice) -> dict[str, Any]:
    """Of the base model."""
    passes = choice.images / (case.found.count - n_reference_of(case.found))
    least = choice.size.least_images if isinstance(choice.size, Size) else 0
    why = "the least for this size" if choice.images <= least else "what the time allows"
    if passes >= MOST_PASSES:
        why = "more would learn them by heart"
    return {
        "steps": choice.steps,
        "steps_reason": f"ours: {choice.images:,} images, {times(passes)} times yours; {why}",
        "rampup_images": max(1, choice.images // 10),
    }


def _warning(base: GivenBase) -> str:
    if base.null_label:
        return ""
    saw = "saw no dropped labels" if base.null_label is False else "may have seen no dropped labels"
    return f"The base {saw}, so CFG by its null label says little; `guide` names a better one."


def _order(found: Survey) -> str:
    names = islice(enumerate(found.classes), 3)
    more = ", …" if len(found.classes) > 3 else ""
    return ", ".join(f"{label} = {name}" for label, name in names) + more


def _run(choice: Choice) -> dict[str, Any]:
    grid, large, is_var = choice.grid, is_large(choice.size), not choice.grid.P_means
    swept = {"lr": grid.lrs, "noise.P_mean": grid.P_means}
    lists = [f"{key}: {plain(values)}" for key, values in swept.items() if len(values) > 1]
    source = "config/imagenet.yaml" if large else "config/fashion.yaml"
    return {
        "approach": 1 if large and is_var else 2,
        "lr_reason": f"ours, as in {source}",
        "tune_batch": 256 if large else 32 if is_var else 64,
        "sweep": f"{{{', '.join(lists)}}}" if lists else "",
    }


def _evaluation(case: Case, choice: Choice) -> dict[str, Any]:
    classes, n_reference = len(case.found.classes), n_reference_of(case.found)
    wanted = min(choice.grid.samples, n_reference)
    is_uniform = is_even(case.found)
    n_samples = max(1, wanted // classes) * classes if is_uniform else wanted
    reason = "as many as reference images" if wanted == n_reference else "fewer take less time"
    shown = [classes * i // GRID_CLASSES for i in range(GRID_CLASSES)]
    return {
        "n_samples": n_samples,
        "n_samples_reason": f"ours: 50,000; {reason}",
        "labels": "balanced" if is_uniform else "proportional",
        "labels_reason": "VAR and DDO: the same number per class; EDM2: random"
        if is_uniform
        else "ours: in the reference classes differ in size, which FD would see",
        "isc_splits": 10 if n_samples >= 1000 else 4,
        "shown": shown if classes > GRID_CLASSES else [],
    }
