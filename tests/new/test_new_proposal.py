"""`mclr new` chooses a network, a grid and a length, and writes them as a tier that loads."""

from __future__ import annotations

import itertools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from mclr import cli
from mclr.config.reading import load_tier, parse_tier
from mclr.cost.hardware import START_SECONDS
from mclr.cost.images import images_of
from mclr.cost.work import Workload
from mclr.data.splits import hold_out
from mclr.errors import UserError
from mclr.models.edm2.config import Edm2Model
from mclr.new.given import Codes, GivenBase
from mclr.new.machine import Machine, load_in_words, rate, this_machine
from mclr.new.make import Made, as_text
from mclr.new.propose import makespan, propose, reckon
from mclr.new.sizes import FAMILIES, GRIDS, Size, grids_for, sizes_for
from mclr.new.survey import Survey
from mclr.new.write import Case, Choice, n_reference_of, render
from mclr.new.yaml_text import number, scalar
from mclr.planning.plan import Plan
from mclr.settings.data import OwnImages

CORES = Machine(2, "", 16e9, 16e9)
SPEED = 20e9
TOO_LITTLE = r"--hours 0.1: the smallest experiment takes about .* give --hours [\d.]+ or more"
EVERY_SIZE = [size for side in (*FAMILIES, 512) for size in sizes_for(side)]
EDM2 = GivenBase("a/b.pkl", "edm2", {"model_channels": 192}, 64, 3, 3, noise=(-0.5, 1.1))
LATENT = GivenBase("b.pkl", "edm2", {"dropout": 0.1}, 512, 3, 3, is_latent=True, null_label=False)
VAR = GivenBase(
    "v.pth", "var", {"depth": 16, "embed_dim": 1024}, 256, 3, 3, null_label=True,
    codes=Codes("var-vae", {}),
)  # fmt: skip
SMALL_VAR = GivenBase(
    "v.safetensors", "var", {"depth": 3, "embed_dim": 48, "num_heads": 3}, 8, 1, 3, null_label=True,
    codes=Codes("t.safetensors", {"ch": 16, "ch_mult": [1, 1], "patch_nums": [1, 2, 4]}),
)  # fmt: skip


def images(side: int = 8, each: int = 200, classes: int = 3, **odd: Any) -> Survey:
    about: dict[str, Any] = {"bad": {}, "turned": 0, "modes": {"grey": each * classes}} | odd
    return Survey(
        "photos", "folder", {f"c{i}": each for i in range(classes)}, about["bad"], [], {},
        about["turned"], (side, side, side), side, about["modes"],
    )  # fmt: skip


def uneven(*counts: int) -> Survey:
    """As many images of each class."""
    classes = {f"c{i}": count for i, count in enumerate(counts)}
    return Survey(
        "photos", "folder", classes, {}, [], {}, 0, (8, 8, 8), 8, {"grey": sum(counts)}
    )  # fmt: skip


def case(found: Survey, hours: float = 8.0, machine: Machine = CORES) -> Case:
    return Case("mine", "config/mine.yaml", found, machine, hours)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of known speed."""
    monkeypatch.setattr("mclr.new.propose.rate", lambda *_: SPEED)


def test_networks_for_images_of_every_size() -> None:
    assert (
        {size.resolution for size in sizes_for(8)} == {8} == {s.resolution for s in sizes_for(15)}
    )
    assert {size.resolution for size in sizes_for(40)} == {16, 32}
    assert sizes_for(7) == []
    found = sizes_for(300)
    assert found[0].resolution == 256 and found[-1] == sizes_for(16)[-1]
    resolutions = [size.resolution for size in found]
    assert resolutions == sorted(resolutions, reverse=True)


@pytest.mark.parametrize("size", [*dict.fromkeys(EVERY_SIZE), EDM2, LATENT, VAR, SMALL_VAR])
def test_whatever_is_chosen_is_a_tier(size: Size | GivenBase) -> None:
    """It loads, its runs can be planned, and its classes, images and samples fit together."""
    odd = {"bad": {"a": "empty file"}, "turned": 3, "modes": {"RGB": 600}}
    for found, grid in itertools.product(
        (images(512, 10, **odd), images(512, 4000, 13)), grids_for(size)
    ):
        text = render(case(found), Choice(size, grid, getattr(size, "least_images", 0)))
        tier = parse_tier(yaml.safe_load(text), "mine")
        plan = Plan(tier)
        assert set(plan.experiments) == {f"{size_family(size)}-{x}" for x in ("base", "mclr")}
        n = tier.evaluation.n_samples
        assert tier.data.n_reference and n % len(found.classes) == 0
        assert n <= max(tier.data.n_reference, len(found.classes))
        (model,) = tier.models.values()
        if isinstance(model, Edm2Model) and isinstance(size, Size):
            assert model.network.model_channels % model.network.channels_per_head == 0


@pytest.mark.parametrize(
    ("counts", "labels"), [((200, 200, 183), "balanced"), ((200, 180), "proportional")]
)
def test_labels_are_as_even_as_the_images(counts: tuple[int, ...], labels: str) -> None:
    found = uneven(*counts)
    text = render(case(found), Choice(sizes_for(8)[0], GRIDS[0], 9000))
    evaluation = parse_tier(yaml.safe_load(text), "mine").evaluation
    assert evaluation.labels == labels
    wanted = n_reference_of(found)
    even = wanted // len(counts) * len(counts)
    assert evaluation.n_samples == (even if labels == "balanced" else wanted)


@pytest.mark.parametrize(
    "counts", [(10, 10), (10, 42), (100_000, 10), (11, 500, 37), (600,) * 300, (2000, 200)]
)
def test_two_of_every_class_are_held_out(counts: tuple[int, ...]) -> None:
    """What the survey lets pass is split with two reference images of each class, and more left."""
    found = uneven(*counts)
    text = render(case(found), Choice(sizes_for(8)[0], GRIDS[2], 9000))
    data = parse_tier(yaml.safe_load(text), "mine").data
    labels = np.repeat(np.arange(len(counts)), counts)
    rows, names = np.arange(len(labels)), list(found.classes)
    assert data.n_reference
    for split in hold_out(rows, labels, names, data.n_reference, data.split_seed):
        assert np.bincount(labels[split]).min() >= 2
    fifth = min(sum(counts) // 5, 5000)
    told = text[text.index("n_reference") :].splitlines()[0]
    assert (data.n_reference != fifth) == ("ours: 2 of the smallest class" in told)


def size_family(size: Size | GivenBase) -> str:
    return size.family if isinstance(size, GivenBase) else "edm2"


def test_every_value_says_where_it_comes_from() -> None:
    text = render(case(images()), Choice(sizes_for(8)[0], GRIDS[0], 25_600))
    section = text[text.index("\nmodels:") :]
    lines = [line for line in section.splitlines() if re.search(r": [\[{]?-?\d", line)]
    assert len(lines) > 25 and all("  # " in line or " # " in line for line in lines)


def test_odd_images_and_other_bases_are_said_in_the_file() -> None:
    found = images(bad={"a": "empty file"}, turned=2)
    text = render(case(found), Choice(sizes_for(8)[0], GRIDS[0], 25_600))
    data = yaml.safe_load(text)["data"]
    assert (data["on_bad_image"], data["exif"], data["channels"]) == ("skip", "apply", 1)
    assert data["n_reference"] == 120 and data["classes"] == 3
    latent = render(case(images(512)), Choice(LATENT, GRIDS[2]))
    model = yaml.safe_load(latent)["models"]["edm2"]
    assert model["autoencoder"] == {"released": "sd-vae-ft-mse"}
    assert model["base"] == {"released": "b.pkl"} and model["noise"]["P_mean"] == -0.4
    assert "The base saw no dropped labels" in latent and "0 = c0, 1 = c1" in latent


def test_mirror_images_are_written_where_they_are_asked_for(steady: None) -> None:
    """And steps of the base may pass over twice as many images."""
    plain, flipped = (propose(replace(case(images(64), 1000), flip=flip)) for flip in (False, True))
    assert "flip" not in plain.text
    assert isinstance(flipped.tier.data, OwnImages) and flipped.tier.data.flip
    assert flipped.choice.images == 2 * plain.choice.images


def test_more_images_than_memory_are_measured_by_a_net_that_is_there() -> None:
    small = Machine(2, "", 16e9, 1e6)
    text = render(case(images(64, 4000), machine=small), Choice(sizes_for(64)[-1], GRIDS[2], 9000))
    tier = parse_tier(yaml.safe_load(text), "mine")
    assert [*tier.features] == ["efficientnet"] == [tier.report.features]
    both = render(case(images(64, 4000)), Choice(sizes_for(64)[0], GRIDS[0], 9000))
    assert [*parse_tier(yaml.safe_load(both), "mine").features] == ["cnn", "efficientnet"]


@pytest.mark.parametrize(("value", "text"), [(0.00003, "0.00003"), (10.0, "10"), (-0.8, "-0.8")])
def test_numbers_as_yaml_reads_them(value: float, text: str) -> None:
    assert number(value) == text and yaml.safe_load(text) == value


@pytest.mark.parametrize("value", ["a b", "no", "$PHOTOS/x", "3", "x: y", "ö#1", "a  # b"])
def test_words_as_yaml_reads_them(value: str) -> None:
    assert yaml.safe_load(f"path: {scalar(value)}") == {"path": value}


def test_more_time_gives_more(steady: None) -> None:
    found = images(each=600)
    least = propose(case(found, 0.05))
    more = propose(case(found, 0.12))
    told: list[str] = []
    most = propose(case(found, 2.0), tell=told.append)
    assert told[0] == "timing this machine and planning, experiment 1"
    assert told[-1].startswith("planning a longer base training of experiment ")
    assert least.choice.grid == GRIDS[2] and most.choice.grid == GRIDS[0]
    assert more.choice.images > least.choice.images or more.choice.grid != least.choice.grid
    assert isinstance(most.choice.size, Size) and most.choice.size.channels == 32
    for proposal, hours in ((least, 0.05), (more, 0.12), (most, 2.0)):
        assert proposal.seconds <= 3600 * hours
        assert proposal.tier.models["edm2"].base.steps == proposal.choice.steps  # type: ignore[union-attr]
    assert most.choice.images == 1000 * (1800 - 360), "no more passes than that"


def test_too_little_time_and_too_small_images_are_told(
    steady: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as slow, pytest.raises(UserError, match=TOO_LITTLE):
        slow.setattr("mclr.new.propose.rate", lambda *_: SPEED / 100)
        propose(case(images(), 0.1))
    with pytest.raises(UserError, match="median short side is 7 pixels, expected at least 8"):
        propose(case(images(7)))
    with pytest.raises(UserError, match="--cores: no network fits into the memory"):
        propose(case(images(), machine=Machine(2, "", 1e9, 1e9)))


def test_time_that_cannot_do_is_told_before_anything_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def timed(*_: Any) -> float:
        raise AssertionError

    monkeypatch.setattr("mclr.new.propose.rate", timed)
    with pytest.raises(UserError, match=r"--hours 0.01: .*even if networks took no time") as told:
        propose(case(images(), 0.01))
    enough = re.search(r"more than --hours ([\d.]+)", str(told.value))
    assert enough is not None
    with pytest.raises(AssertionError):
        propose(case(images(), float(enough[1])))


def test_a_resolution_is_taken_whatever_would_fit(steady: None) -> None:
    found = images(64, 400)
    for resolution in (8, 16, 32):
        tier = propose(replace(case(found), resolution=resolution)).tier
        assert tier.data.resolution == resolution
    text = propose(replace(case(found), resolution=16)).text
    assert re.search(r"resolution: 16 +# yours \(--resolution\)", text)
    with pytest.raises(UserError, match=r"--hours 0.2: the smallest experiment takes about"):
        propose(replace(case(found, 0.2), resolution=64))


def made(found: Survey, hours: float, resolution: int | None = None) -> Made:
    wanted = replace(case(found, hours), resolution=resolution)
    return Made(wanted, propose(wanted))


def test_images_that_become_smaller_are_told(steady: None) -> None:
    small = made(images(64), 0.3)
    chosen = small.proposal.tier.data.resolution
    assert chosen < 64
    told = (
        f"64 pixels (median short side) become {chosen}×{chosen}; to keep more, give more --hours"
    )
    assert told in as_text(small)
    for other in (made(images(64), 0.3, chosen), made(images(8), 8.0)):
        assert "become" not in as_text(other)


def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("os.getloadavg", lambda: (3.24, 0.0, 0.0))
    assert load_in_words().startswith("This machine is busy: load 3.2 on 2 cores.")
    monkeypatch.setattr("os.getloadavg", lambda: (0.4, 9.0, 9.0))
    assert load_in_words() == ""


def test_jobs_share_cores_or_take_turns_on_a_gpu(steady: None) -> None:
    choice = Choice(sizes_for(8)[-1], GRIDS[2], 25_600)
    found = case(images())
    tier = parse_tier(yaml.safe_load(render(found, choice)), "mine")
    load = Workload(Plan(tier), images_of(tier, 600))
    one, two, many = (makespan(load, Machine(n, "", 1e10, 1e10), SPEED) for n in (1, 2, 1000))
    assert many < two < one < 2 * two
    macs = sum(load.of(job).half + load.of(job).single for job in load.jobs)
    cpu = sum(load.of(job).cpu for job in load.jobs)
    assert one == pytest.approx(len(load.jobs) * START_SECONDS + macs / SPEED + 2 * cpu / 50e9)
    assert many < makespan(load, Machine(8, "A GPU", 1e10, 1e10), SPEED) < one
    assert reckon(found, choice) == two


def test_a_network_is_timed_here(steady: None) -> None:
    choice = Choice(sizes_for(8)[-1], GRIDS[2], 25_600)
    tier = parse_tier(yaml.safe_load(render(case(images()), choice)), "mine")
    machine = this_machine(1, "cpu")
    assert machine.text == "1 core" and machine.memory > 1e8
    speed = rate(tier.models["edm2"], images_of(tier, 600), machine)
    assert 1e8 < speed < 1e13


@pytest.fixture
def mclr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], steady: None) -> Any:
    """Runs ``mclr new …`` in this process: exit status, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mclr", "--device", "cpu", "new", *arguments])
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        else:
            status = 0
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def test_the_command(mclr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mclr.new.make.load_in_words", lambda: "This machine is busy.")
    Path("config").mkdir()
    for i in range(24):
        path = tmp_path / "my photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 50 + i).save(path)
    wanted = ("mine", "--images", str(tmp_path / "my photos"), "--hours", "0.1", "--cores", "2")
    status, out, err = mclr(*wanted)
    assert status == 0, err
    assert "This machine is busy." in out
    assert "24 images of 2 classes" in out and "config/mine.yaml: about" in out
    assert out.rstrip().endswith("snakemake --configfile config/mine.yaml --cores 2 -- all")
    assert "mclr plan config/mine.yaml --images 24" in out
    tier = load_tier(Path("config/mine.yaml"))
    assert tier.data.path == "my photos", "relative to the checkout"  # type: ignore[union-attr]
    status, out, err = mclr(*wanted)
    assert (status, out) == (2, "") and "there is such a file already" in err
    status, _, err = mclr(*wanted, "--force", "--resolution", "16")
    assert status == 2 and "half of the images have a short side of 8 pixels or less" in err
    status, out, _ = mclr(*wanted, "--force", "--resolution", "8", "--json")
    told = json.loads(out)
    assert status == 0 and told["images"]["classes"] == {"a": 12, "b": 12}
    assert told["tier"] == tier.model_dump(mode="json", by_alias=True)
    assert told["seconds"] <= 360 and told["config"] == "config/mine.yaml"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("My-Data", "--images", "x"), "NAME: 'My-Data' is no name for a tier"),
        (("theory", "--images", "x"), "results/theory/ has another use"),
        (("mine", "--images", "x"), "x: no such folder or file"),
        (("mine", "--images", "$NOWHERE_AT_ALL/x"), "variable NOWHERE_AT_ALL is not set"),
        (("mine", "--images", "x", "--base", "y.pkl"), "--base: y.pkl: there is no such file"),
        (("mine", "--images", "x", "--tokenizer", "y"), "--tokenizer: is that of a base model"),
        (("mine", "--images", "x", "--resolution", "48"), "--resolution 48: no networks for that"),
        (
            ("mine", "--images", "x", "--resolution", "64", "--base", "y.pkl"),
            "--resolution: is that of the base model",
        ),
    ],
)
def test_mistakes_are_one_line(
    mclr: Any,
    arguments: tuple[str, ...],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()
    status, out, err = mclr(*arguments)
    assert (status, out) == (2, "") and text in err and err.count("\n") == 1
    assert not list(tmp_path.rglob("*.yaml"))
