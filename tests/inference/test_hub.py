"""Models on the hub, with its own client against a stand-in on this machine: there and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hub_server import Hub, Machine
from published import bring_experiments

from mclr.errors import UserError
from mclr.inference.hub import check_name, pull
from mclr.inference.licence import Part, check_sharing, licence_for, stated_licence

EXPORT = ("export-model", "--experiment", "edm2-mclr", "--output", "my-model")


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    bring_experiments(folder, "edm2-mclr")
    return folder


@pytest.fixture
def author(tmp_path: Path, results: Path, hub: Hub) -> Iterator[Machine]:
    yield Machine(tmp_path / "author", results, hub.url)
    for path in sorted((results / "my-model").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if (results / "my-model").exists():
        (results / "my-model").rmdir()


def test_there_and_back(author: Machine, hub: Hub, tmp_path: Path) -> None:
    """Pushed, drawn by its commit elsewhere, then from the cache without a hub."""
    status, out, err = author.mclr(*EXPORT, "--push", "me/digits", "--licence", "mit")
    assert status == 0, err
    ((commit, files),) = hub.models["me/digits"]
    assert f"me/digits@{commit}: on the hub" in out and not hub.private["me/digits"]
    local = author.folder / "my-model"
    assert files == {str(path.relative_to(local)): path.read_bytes() for path in local.iterdir()}
    assert any("/large/" in asked or "lfs" in asked for asked in hub.requests)
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert front["license"] == "mit" and front["library_name"] == "mclr"

    (tmp_path / "work").mkdir()
    reader = Machine(tmp_path / "reader", tmp_path / "work", hub.url, token="")
    status, _, err = reader.draw(f"me/digits@{commit}", "first.png")
    assert status == 0, err
    assert "is commit" not in err  # it was pinned
    status, _, err = reader.draw("me/digits", "newest.png")
    assert status == 0 and f"me/digits: is commit {commit}; name it to have the same" in err, err

    # A new commit: the pinned one stays what it was.
    newer = hub.commit("me/digits", {"model.safetensors": b"damaged"})
    assert newer != commit
    assert reader.draw(f"me/digits@{commit}", "again.png")[0] == 0
    status, _, err = reader.draw("me/digits", "other.png")
    assert status == 2 and "model.safetensors" in err

    asked = len(hub.requests)
    for offline in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        status, _, err = reader.draw(f"me/digits@{commit}", "offline.png", **offline)
        assert status == 0, err
    assert len(hub.requests) == asked
    drawn = {name: (tmp_path / "work" / f"{name}.png").read_bytes() for name in ("first", "again")}
    assert drawn["first"] == drawn["again"] == (tmp_path / "work" / "offline.png").read_bytes()
    status, _, err = reader.draw("me/never-fetched", "x.png", HF_HUB_OFFLINE="1")
    assert status == 2 and len(err.strip().splitlines()) == 1
    assert "me/never-fetched: no such folder here, and the Hugging Face Hub did not give it" in err


def test_it_is_private_where_that_is_asked_for(author: Machine, hub: Hub) -> None:
    push = ("--push", "me/secret", "--private", "--licence", "mit")
    status, _, err = author.mclr(*EXPORT, *push)
    assert status == 0, err
    assert hub.private == {"me/secret": True}


def test_metadata_that_the_hub_refuses(author: Machine, hub: Hub) -> None:
    status, _, err = author.mclr(*EXPORT, "--push", "me/digits", "--licence", "my-own")
    assert status == 2 and "the hub refuses its metadata" in err and '"license" must be' in err
    assert hub.models == {}


def test_without_a_licence_nothing_is_written(author: Machine, hub: Hub) -> None:
    status, _, err = author.mclr(*EXPORT, "--push", "me/digits")
    assert status == 2 and "choose one that those of the data allow" in err
    assert not (author.folder / "my-model").exists() and hub.requests == []


def test_a_token_that_is_refused(author: Machine, hub: Hub) -> None:
    author.environment["HF_TOKEN"] = "hf_other"
    status, _, err = author.mclr(*EXPORT, "--push", "me/digits", "--licence", "mit")
    assert status == 2 and "the Hugging Face Hub did not take it" in err and "hf auth login" in err
    assert hub.models == {}


@pytest.mark.parametrize("name", ["digits", "me/digits@main", "a/b/c", "me/di gits"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"push: {name!r}: expected ORG/NAME")):
        check_name(name)


def test_two_revisions() -> None:
    with pytest.raises(UserError, match="has a revision already; leave out 'v2'"):
        pull("me/digits@v1", [], "v2")


# ------------------------------------------------------------------ licences


EDM2 = Part("base", "edm2-img64-s-1073741-0.075", "CC BY-NC-SA 4.0")
VAE = Part("tokenizer", "sd-vae-ft-mse", "MIT")
DIT = Part("base", "DiT-XL-2-256", "cc-by-nc-4.0")
UNKNOWN = Part("base", "somebodys", "")
VAR = Part("base", "var-d24", "MIT")


@pytest.mark.parametrize(
    ("parts", "wanted", "in_card"),
    [
        ([], None, None),
        ([], "mit", "mit"),
        ([EDM2], None, "cc-by-nc-sa-4.0"),
        ([VAE, EDM2], None, "cc-by-nc-sa-4.0"),
        ([VAE], None, None),
        ([VAR, VAE], None, "mit"),
        ([DIT, VAE], None, "cc-by-nc-4.0"),
        ([UNKNOWN], None, None),
    ],
)
def test_the_card_has_the_licence_of_the_base(
    parts: list[Part], wanted: str | None, in_card: str | None
) -> None:
    assert licence_for(parts, wanted) == in_card


@pytest.mark.parametrize(
    ("parts", "licence"),
    [
        ([], "mit"),
        ([EDM2], "cc-by-nc-sa-4.0"),
        ([DIT], "cc-by-nc-4.0"),
        ([DIT], "cc-by-nc-sa-4.0"),
        ([VAR, VAE], "apache-2.0"),
    ],
)
def test_what_licences_allow(parts: list[Part], licence: str) -> None:
    check_sharing(parts, licence, despite=False)


@pytest.mark.parametrize(
    ("parts", "licence", "message"),
    [
        ([EDM2], "mit", r"base edm2\S+ is under cc-by-nc-sa-4.0, which forbids .* under mit"),
        ([VAE, EDM2], "cc-by-nc-4.0", "which forbids"),
        ([DIT], "mit", "use --licence cc-by-nc-4.0"),
        ([UNKNOWN], "mit", "the licence of the base somebodys is not stated"),
        ([Part("base", "x", "MIT (of VAR; see the publisher's page)")], "mit", "is not known here"),
    ],
)
def test_what_licences_forbid_is_pushed_by_those_who_say_so(
    parts: list[Part], licence: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_sharing(parts, licence, despite=False)
    check_sharing(parts, licence, despite=True)
    with pytest.raises(UserError, match="the weights have no licence"):
        check_sharing(parts, None, despite=True)


def test_stated_licences(tmp_path: Path) -> None:
    assert stated_licence("edm2-img64-s-1073741-0.075") == "CC BY-NC-SA 4.0"
    assert stated_licence("sd-vae-ft-mse") == "MIT"  # a release of two files
    model = tmp_path / "model" / "transformer"
    model.mkdir(parents=True)
    (tmp_path / "model" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    for place in (tmp_path / "model", model):
        assert stated_licence(str(place)) == "cc-by-nc-4.0"
    (tmp_path / "model" / "README.md").write_text("---\nlicense: [1\n---\n")
    assert stated_licence(str(model)) == ""
    assert stated_licence(str(tmp_path / "absent")) == ""
