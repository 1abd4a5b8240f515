"""Models on the Hugging Face Hub: a folder goes there, and comes from there by its id.

All goes through the client ``huggingface_hub``, which heeds ``HF_ENDPOINT``, ``HF_HOME``,
``HF_HUB_OFFLINE`` and the token of ``hf auth login``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mclr.errors import UserError
from mclr.events import LOG
from mclr.extras import require

HUB_ID = re.compile(r"(?P<name>[\w-][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w.-][\w./-]*))?")
"""``someone/their-model``, or with ``@revision``."""
COMMIT = re.compile(r"[0-9a-f]{40}")


def check_name(name: str) -> None:
    """UserError unless ``name`` is that of a model on the hub, without a revision."""
    found = HUB_ID.fullmatch(name)
    if not found or found["revision"]:
        raise UserError(f"push: {name!r}: expected ORG/NAME, such as someone/their-model")
    require("huggingface_hub")


def push(folder: Path, files: list[str], name: str, *, private: bool = False) -> str:
    """Put these files of a model folder onto the hub as one commit; gives the commit's hash.

    The hub first validates the metadata of the card. The model is made if it is not there.

    Raises:
        UserError: the hub refuses the card's metadata, or the rest.
    """
    check_name(name)
    from huggingface_hub import HfApi, ModelCard

    card = ModelCard((folder / "README.md").read_text(encoding="utf-8"))
    with _told(f"push: {name}: the Hugging Face Hub did not take it"):
        try:
            card.validate()
        except ValueError as error:
            said = " ".join(str(error).split())
            raise UserError(
                f"push: {folder / 'README.md'}: the hub refuses its metadata: {said}"
            ) from error
        hub = HfApi()
        hub.create_repo(name, private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=files,
            commit_message="Upload by mclr export-model",
        )
    return str(commit.oid)


def pull(name: str, files: list[str], revision: str | None = None) -> Path:
    """The local copy of a model on the hub; what the cache has is not fetched again.

    name: with or without ``@revision``. Whoever gives no revision, or a branch, is told the commit
    that it is now. Where the hub cannot be reached, or with ``HF_HUB_OFFLINE=1``, the cache's copy
    is taken.

    Raises:
        UserError: two revisions are given; neither the hub nor the cache has it.
    """
    found = HUB_ID.fullmatch(name)
    if not found:
        raise ValueError(f"{name!r} is no id of the hub")
    if revision and found["revision"]:
        raise UserError(f"{name}: has a revision already; leave out {revision!r}")
    revision = revision or found["revision"]
    require("huggingface_hub")
    from huggingface_hub import snapshot_download

    with _told(f"{name}: no such folder here, and the Hugging Face Hub did not give it"):
        place = Path(snapshot_download(found["name"], revision=revision, allow_patterns=files))
    if place.name != revision and COMMIT.fullmatch(place.name):
        LOG.info(
            "%s: is commit %s; name it to have the same again: %s@%s",
            name, place.name, found["name"], place.name,
        )  # fmt: skip
    return place


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever the client raises, as one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # no network, no access, no such id, a full disk …
        first = str(error).strip().split("\n")[0]
        raise UserError(
            f"{what} ({first}); check the name, the network and, for a private model, "
            "`hf auth login`"
        ) from error
