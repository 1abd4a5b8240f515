"""From the results of a tier to a model folder: an experiment's best checkpoint, with its card."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path
from typing import Any

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.files import atomic, sha256
from mclr.inference.card import write_card
from mclr.inference.folder import (
    FORMAT,
    SAMPLES,
    WITHOUT_DIAL,
    DialConfig,
    Images,
    ModelConfig,
    write_folder,
)
from mclr.inference.grid import labelled_grid
from mclr.inference.licence import check_sharing, licence_for, parts_of
from mclr.inference.source import Source, find_source, without_places
from mclr.models.config import Model
from mclr.report.embedded import read_image
from mclr.settings.origin import Released

SHOWN = 10
"""Classes in the picture of samples."""


def export_model(
    tier: Tier,
    experiment: str,
    output: Path,
    licence: str | None = None,
    sharing: bool = False,
    despite: bool = False,
) -> list[Path]:
    """Write the best checkpoint of an experiment as a model folder; gives the files written.

    Results are read from ``results/<tier>`` and ``data/prepared/<tier>`` below this directory.
    An experiment is an entry of ``runs``, or ``<model>-base``. licence: of the
    weights; None: that of the base model, if others trained it. sharing: whether they will be
    shared, which is checked before anything is written; despite: and is said to be allowed.

    Raises:
        UserError: unknown experiment, results missing or of another configuration, or ``output``
            has files already; or the weights may not be shared so.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: exists and is not empty; choose another folder, or delete it")
    source = find_source(tier, experiment)
    if sharing:
        parts = parts_of(source.model, source.run.taken)
        check_sharing(parts, licence_for(parts, licence), despite)
    config = model_config(source)
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        card = write_card(source, config, unfinished, licence)
        samples = _samples(source, config, unfinished)
        files = write_folder(unfinished, config, source.weights, source.tokenizer)
        unfinished.replace(output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return [output / file.name for file in (*files, card, *samples)]


def model_config(source: Source) -> ModelConfig:
    """``config.json`` of a checkpoint."""
    model, spec = source.model, source.spec
    channels, resolution, _ = source.manifest["shape"]
    value = source.run.value
    dial = None if value is None else DialConfig(default=value)
    return ModelConfig(
        format=FORMAT if dial else WITHOUT_DIAL,
        mclr=importlib.metadata.version("mclr"),
        network=_without_code(spec["network"]) | ({"dial": True} if dial else {}),
        precision=spec["precision"],
        decoding=model.decoding,
        sampler=model.sampler,
        dial=dial,
        images=Images(
            channels=channels, resolution=resolution, class_names=source.manifest["class_names"]
        ),
        null_label=_knows_the_null_label(model),
        batch=source.tier.evaluation.batch,
        training={
            "tier": source.tier.tier,
            "run_id": source.run.run_id,
            "step": source.step,
            "identity": spec["identity"],
            "noise": spec.get("noise"),
            "fine_tuning": without_places(spec.get("run")),
            "base": without_places(model.base.model_dump(mode="json")),
            "data": {
                "source": without_places(source.manifest["source"]),
                "sha256": source.manifest["splits"]["train"]["sha256"],
            },
            "weights_sha256": sha256(source.weights),
        },
    )


def _without_code(network: dict[str, Any]) -> dict[str, Any]:
    """The architecture; of a family of one's own without its class, which a folder never names."""
    return {key: value for key, value in network.items() if key not in ("implementation", "sha256")}


def _knows_the_null_label(model: Model) -> bool:
    """Whether base training dropped labels: EDM2's released networks never saw a dropped one."""
    if isinstance(model.base, Released):
        return model.released_null_label
    return model.base.label_dropout > 0


def _samples(source: Source, config: ModelConfig, output: Path) -> list[Path]:
    """Some images of the workflow's grid of this checkpoint, labelled; nothing if it is gone."""
    if not source.grid.is_file():
        return []
    columns_of = source.tier.evaluation.shown(len(config.images.class_names))[:SHOWN]
    names = [config.images.class_names[label] for label in columns_of]
    side = config.images.resolution
    rows = source.tier.evaluation.grid_rows
    stored = read_image(source.grid)
    cells = [
        stored.crop((side * c, side * r, side * (c + 1), side * (r + 1)))
        for c in range(len(names))
        for r in range(rows)
    ]
    columns = [str(row + 1) for row in range(rows)]
    picture = labelled_grid(cells, names, columns, "noise")
    with atomic(output / SAMPLES) as temporary:
        picture.save(temporary, "PNG")
    return [output / SAMPLES]
