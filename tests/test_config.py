"""A valid tier is read; every kind of mistake gives one clear line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from mclr.config.reading import json_schema, load_tier, parse_tier
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.planning.plan import Plan
from mclr.report.methods import methods_for
from mclr.settings.section import canonical

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "config" / "digits.yaml"

Edit = Callable[[dict[str, Any]], Any]


def message(content: object) -> str:
    with pytest.raises(UserError) as caught:
        parse_tier(content, "my.yaml")
    return str(caught.value)


def put(path: str, value: Any) -> Edit:
    """An edit that sets the key at a dotted path."""

    def edit(content: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            content = content[parent]
        content[last] = value

    return edit


def drop(path: str) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            content = content[parent]
        del content[last]

    return edit


def test_digits_is_valid() -> None:
    tier = load_tier(DIGITS)
    assert tier.tier == "digits"
    named = {run.objective.name for run in tier.runs.values()}
    assert named == {"mclr", "ccdpo", "cca", "ddo", "distill", "gft"}


def test_every_configuration_in_the_repository_is_valid() -> None:
    """All files but those that describe a computing site."""
    tiers = [p for p in (ROOT / "config").glob("*.yaml") if not p.name.startswith("site.")]
    assert [load_tier(path).tier for path in tiers] == [path.stem for path in tiers]


OWN = {"source": "images", "path": "photos", "resolution": 8}
MISTAKES: dict[str, tuple[Edit, list[str]]] = {
    "unknown key, close to a valid one": (
        put("models.edm2.base.batsh", 3),
        ["models.edm2.base.batsh: unknown key, did you mean 'batch'?", "valid keys: batch, ema"],
    ),
    "unknown key, close to none": (
        put("evaluation.zzz", 3),
        ["evaluation.zzz: unknown key; valid keys: batch, grid_classes"],
    ),
    "unknown key at the top": (put("rnus", {}), ["rnus: unknown key, did you mean 'runs'?"]),
    "unknown key of an objective": (
        put("runs.edm2-cca.objective.lamda", 1),
        ["runs.edm2-cca.objective.lamda", "did you mean 'lambda'?"],
    ),
    "unknown key of a network": (
        put("models.var.network.deph", 1),
        ["models.var.network.deph", "did you mean 'depth'?"],
    ),
    "missing key": (
        drop("models.edm2.base.lr"),
        ["models.edm2.base.lr: required key is missing"],
    ),
    "wrong type": (
        put("models.edm2.base.steps", "many"),
        ["models.edm2.base.steps: ", "valid integer", "got 'many'"],
    ),
    "wrong type in a list": (
        put("runs.var-mclr.checkpoints", [10, "x"]),
        ["runs.var-mclr.checkpoints.1: ", "got 'x'"],
    ),
    "text where a mapping belongs": (put("evaluation", "all"), ["evaluation: ", "got 'all'"]),
    "out of range": (put("runs.var-mclr.lr", -1), ["runs.var-mclr.lr: ", "greater than 0", "-1"]),
    "nothing to decode": (
        put("models.edm2.decoding", "tf32"),
        ["models.edm2: decoding is for the latents of a released autoencoder", "remove decoding"],
    ),
    "decoder's number type": (
        put("models.var.decoding", "half"),
        ["models.var.decoding: ", "'tf32'", "got 'half'"],
    ),
    "not finite": (put("models.edm2.noise.P_mean", float("nan")), ["noise.P_mean: ", "finite"]),
    "infinite": (put("runs.edm2-mclr.lr", float("inf")), ["runs.edm2-mclr.lr: ", "finite"]),
    "unknown objective": (
        put("runs.edm2-mclr.objective.name", "dpo"),
        ["runs.edm2-mclr.objective.name: got 'dpo'", "'mclr', 'wmclr', 'ccdpo', 'cca', 'ddo'"],
    ),
    "objective without a name": (
        drop("runs.edm2-mclr.objective.name"),
        ["runs.edm2-mclr.objective.name: required key is missing"],
    ),
    "unknown family": (
        put("models.edm2.family", "gan"),
        ["models.edm2.family: got 'gan'", "'edm2', 'var'"],
    ),
    "weighted MCLR with exact likelihoods": (
        put("runs.var-mclr.objective", {"name": "wmclr", "dsm": 1}),
        ["runs.var-mclr: wmclr needs a diffusion model", "use mclr"],
    ),
    "unknown precision": (
        put("models.edm2.precision", "half"),
        ["models.edm2.precision: ", "'float32'", "'auto'", "'half'"],
    ),
    "tier named like another folder": (
        put("tier", "theory"),
        ["tier: ", "results/theory/ has another use; choose another name"],
    ),
    "unknown data source": (put("data.source", "mnist"), ["data.source: ", "'digits'", "'mnist'"]),
    "own images without a number of reference images": (
        put("data", OWN),
        ["data: n_reference: required key is missing", "or write `reference: train`"],
    ),
    "unknown transform of own images": (
        put("data", {**OWN, "transform": "middle"}),
        ["data.transform: ", "'center-crop-dhariwal', 'center-crop', 'scale' or 'var'"],
    ),
    "transform of images that are squares": (
        put("models.var.transform", "var"),
        ["models.var.transform: images of digits are square; remove it"],
    ),
    "transform of one model of pixels": (
        lambda c: (
            put("data", {**OWN, "reference": "train"})(c),
            put("models.edm2.transform", "var")(c),
        ),
        ["models.edm2.transform: models of pixels share their images; use data.transform"],
    ),
    "key of another source": (
        put("data", {"source": "digits", "n_reference": 797, "path": "photos"}),
        ["data.path: unknown key; valid keys: n_reference, source, split_seed"],
    ),
    "unknown label scheme": (
        put("evaluation.labels", "alle"),
        ["evaluation.labels: ", "'balanced', 'random' or 'proportional'", "'alle'"],
    ),
    "unknown model of a run": (
        put("runs.edm2-mclr.model", "edm3"),
        ["runs.edm2-mclr.model: unknown name 'edm3'; choose from edm2, var"],
    ),
    "unknown feature net": (
        put("report.features", "dino"),
        ["report.features: unknown name 'dino'; choose from cnn"],
    ),
    "unknown net of the Inception Score": (
        put("evaluation.isc_features", "dino"),
        ["evaluation.isc_features: unknown name 'dino'; choose from cnn"],
    ),
    "unordered checkpoints": (
        put("runs.edm2-mclr.checkpoints", [20, 10]),
        ["runs.edm2-mclr.checkpoints: steps must increase without repeats, got [20, 10]"],
    ),
    "repeated checkpoints": (
        put("runs.edm2-mclr.checkpoints", [10, 10]),
        ["runs.edm2-mclr.checkpoints: steps must increase"],
    ),
    "no checkpoints": (put("runs.edm2-mclr.checkpoints", []), ["runs.edm2-mclr.checkpoints: "]),
    "too many shards": (
        put("evaluation.shards", 5),
        ["evaluation: shards 5: at most the 4 batches"],
    ),
    "unordered noise levels": (
        put("models.edm2.sampler.sigma_min", 90),
        ["models.edm2.sampler: sigma_min 90.0 must be below sigma_max 80.0"],
    ),
    "repeated guidance": (
        put("models.var.guidance", [1, 1.0]),
        ["models.var.guidance: values must differ in their first six digits, got [1.0, 1.0]"],
    ),
    "repeated seeds": (put("seeds", [1, 1]), ["seeds: seeds must differ, got [1, 1]"]),
    "negative seed": (put("models.var.base.seed", -1), ["models.var.base.seed: ", "-1"]),
    "seeds that reach those of other images": (
        put("seeds", [2**30]),
        ["seeds: ", "at most 2^30 = 1073741824; use smaller seeds"],
    ),
    "empty sweep": (put("runs.edm2-mclr.sweep", {"lr": []}), ["runs.edm2-mclr.sweep.lr: "]),
    "swept words": (
        put("runs.edm2-mclr.sweep", {"lr": ["small"]}),
        ["runs.edm2-mclr.sweep.lr.0: ", "got 'small'"],
    ),
    "reserved name": (
        lambda c: put("runs.edm2-base", c["runs"]["edm2-mclr"])(c),
        ["runs.edm2-base: names ending in -base, -final, -study, -real are taken"],
    ),
    "name with capitals": (lambda c: put("runs.A", c["runs"]["edm2-mclr"])(c), ["runs.A"]),
    "number beyond all": (put("models.edm2.base.steps", 10**18), ["a whole number beyond 2^53"]),
    "absurd widths": (
        put("models.edm2.network.model_channels", 10**9),
        ["models.edm2.network: a network of over 1.8e+19 parameters; expected at most 1e+11"],
    ),
    "absurd depth": (
        put("models.var.network.depth", 10**9),
        ["models.var.network: a network of 1,000,000,000 blocks; expected at most 1,000"],
    ),
    "absurd tokens": (
        put("models.var.tokenizer.network.patch_nums", [1, 10**5]),
        ["patch_nums: 10,000,000,001 tokens an image; expected at most 16,384"],
    ),
    "absurd tokenizer": (
        put("models.var.tokenizer.network.num_res_blocks", 10**9),
        ["models.var.tokenizer.network: a network of 2,000,000,000 blocks"],
    ),
    "absurd sampler": (
        put("models.edm2.sampler.num_steps", 10**9),
        ["models.edm2.sampler.num_steps: ", "less than or equal to 10000"],
    ),
    "absurd images": (
        put("models.edm2.resolution", 10**9),
        ["models.edm2.resolution: ", "less than or equal to 8192"],
    ),
    "absurd shards": (put("evaluation.shards", 10**9), ["evaluation.shards: ", "equal to 1000"]),
    "absurd feature net": (
        put("features.cnn.dimensions", 10**9),
        ["features.cnn.dimensions: ", "equal to 32768"],
    ),
    "absurd sweep": (
        put("runs.edm2-mclr.sweep", {"lr": [*range(1, 401)], "objective.K": [*range(1, 401)]}),
        ["640,", " points would be evaluated; expected at most 100,000"],
    ),
    "impossible architecture": (
        put("models.var.network.num_heads", 3),
        ["models.var.network: embed_dim 8 is not a multiple of num_heads 3"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_per_mistake(tiny: dict[str, Any], mistake: str) -> None:
    edit, parts = MISTAKES[mistake]
    edit(tiny)
    text = message(tiny)
    assert text.startswith("my.yaml: ") and "\n" not in text, text
    for part in parts:
        assert part in text, text


def test_two_mistakes_two_lines(tiny: dict[str, Any]) -> None:
    put("evaluation.batch", 0)(tiny)
    put("models.var.base.lr", 0)(tiny)
    lines = message(tiny).splitlines()
    assert len(lines) == 2 and all(line.startswith("my.yaml: ") for line in lines)


@pytest.mark.parametrize("content", [None, [1], "text"])
def test_not_a_mapping(content: object) -> None:
    assert message(content).startswith("my.yaml: expected a mapping of keys, got")


def test_file_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: no such configuration file"):
        load_tier(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("tier: digits\nseeds: [0, 1\ndata: {")
    with pytest.raises(UserError, match=r"broken\.yaml: not valid YAML at line 3"):
        load_tier(broken)
    broken.write_bytes(b"tier: \xff\xfe")
    with pytest.raises(UserError, match=r"broken\.yaml: cannot be read as a text file"):
        load_tier(broken)
    with pytest.raises(UserError, match="cannot be read as a text file"):
        load_tier(tmp_path)


def laughs(levels: int, width: int) -> str:
    """YAML whose last line stands for width^levels values."""
    lines = ["a0: &a0 [x]"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]")
    return "\n".join(lines)


BOMBS = {
    "aliases": (laughs(30, 9), "more than 200,000 values, aliases counted"),
    "merged aliases": (
        laughs(9, 9) + "\nlast: {<<: [" + ", ".join(["*a8"] * 9) + "]}",
        "more than 200,000 values",
    ),
    "an alias of itself": ("tier: &a [*a]", "an alias of what it stands in"),
    "depth in brackets": ("tier: " + "[" * 100_000, "nested more than 40 levels deep"),
    "depth in braces": ("tier: " + "{a: " * 5_000, "nested more than 40 levels deep"),
    "depth in lines": ("- " * 5_000 + "x", "nested more than 40 levels deep"),
    "size": ("tier: " + "x" * 2**19, "larger than 256 KiB"),
    "digits": ("tier: " + "9" * 10_000, "Exceeds the limit"),
    "a date that there is not": ("tier: 2026-99-99", "month must be"),
    "a Python object": ("tier: !!python/object/apply:os.getcwd []", "could not determine a con"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_configuration_of_no_size_is_refused_at_once(bomb: str, tmp_path: Path) -> None:
    path, (text, said) = tmp_path / "bomb.yaml", BOMBS[bomb]
    path.write_text(text)
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"^[^\n]*bomb\.yaml: not valid YAML[^\n]*{said}[^\n]*$"):
        load_tier(path)
    assert time.monotonic() - start < 5


def test_a_configuration_may_use_aliases(tiny: dict[str, Any], tmp_path: Path) -> None:
    shared = [1, 2]
    tiny["seeds"], tiny["runs"]["edm2-mclr"]["checkpoints"] = shared, shared
    text = yaml.safe_dump(tiny)
    assert "&id001" in text
    (tmp_path / "my.yaml").write_text(text)
    assert load_tier(tmp_path / "my.yaml").seeds == [1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tier: a\nseeds: [0]\ntier: b\n", "line 3: tier comes twice, on lines 1 and 3"),
        ("a:\n  lr: 1\n  batch: 2\n  'lr': 3\n", "line 4: lr comes twice, on lines 2 and 4"),
        ("a: {x: 1, x: 2}", "line 1: x comes twice, on lines 1 and 1"),
    ],
)
def test_a_key_that_comes_twice_is_told_with_both_lines(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"twice\.yaml: not valid YAML at {said}; remove one"):
        load_tier(tmp_path / "twice.yaml")


def test_numbers_as_yaml_reads_them(tiny: dict[str, Any]) -> None:
    """YAML 1.1 reads 1e-3 as text; it is still the number, in a sweep too."""
    tiny["runs"]["edm2-mclr"] |= {"lr": "1e-3", "sweep": {"lr": ["1e-4", 1]}}
    run = parse_tier(tiny, "my.yaml").runs["edm2-mclr"]
    assert (run.lr, run.sweep) == (0.001, {"lr": [0.0001, 1.0]})


def test_method_names(tiny: dict[str, Any]) -> None:
    put("runs.edm2-mclr.objective.dsm", 2)(tiny)
    runs = parse_tier(tiny, "my.yaml").runs
    methods = {name: run.objective.method for name, run in runs.items()}
    assert methods["edm2-mclr"] == "mclr+dsm" and methods["var-mclr"] == "mclr"
    assert [methods[f"var-{m}"] for m in ("ccdpo", "cca", "ddo")] == ["ccdpo", "cca", "ddo"]


def test_weighted_mclr_is_swept_over_guidance_scales(tiny: dict[str, Any]) -> None:
    """dsm 0.7 to 2: CFG at γ of 1.4 to 0.5."""
    weighted = {"objective": {"name": "wmclr", "dsm": 1}, "sweep": {"objective.dsm": [0.7, 2]}}
    tiny["runs"]["edm2-mclr"] |= weighted
    runs = Plan(parse_tier(tiny, "my.yaml")).of("edm2-mclr")
    assert {(run.method, run.hyperparameters["dsm"]) for run in runs} == {
        ("wmclr", 0.7), ("wmclr", 2.0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"name": "gft", "beta": 0}, "beta: input should be greater than 0"),
        ({"name": "gft", "beta": 1.5}, "beta: input should be less than or equal to 1"),
        ({"name": "mg", "w": 1}, "w: input should be less than 1"),
        ({"name": "distill", "gamma": 0}, "gamma: input should be greater than 0"),
        ({"name": "distill"}, "gamma"),
    ],
)
def test_strengths_that_no_guidance_has_are_refused(
    tiny: dict[str, Any], objective: dict[str, Any], message: str
) -> None:
    tiny["runs"]["var-mclr"]["objective"] = objective
    with pytest.raises(UserError, match=rf"(?i){message}"):
        parse_tier(tiny, "my.yaml")


def test_the_likelihood_term_is_a_row_unless_its_runs_are_ablations() -> None:
    """Of digits, which has no final seeds, as the other methods; of fashion an ablation alone."""
    for name, rows in (("digits", {"edm2", "var"}), ("fashion", set())):
        tier = load_tier(ROOT / "config" / f"{name}.yaml")
        assert "mclr+dsm" in {run.objective.method for run in tier.runs.values()}
        found = {m for m in tier.models if methods_for(tier, m)["mclr+dsm"].in_table}
        assert found == rows


def test_values_are_fixed_once_read(tiny_tier: Tier) -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny_tier.tier = "other"


def test_effective_configuration_reads_back(tiny_tier: Tier, tmp_path: Path) -> None:
    """What ``mclr effective-config`` writes (defaults included) is the same tier."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(json.loads(canonical(tiny_tier))))
    assert load_tier(path) == tiny_tier
    assert json.loads(canonical(tiny_tier))["runs"]["edm2-cca"]["objective"]["lambda"] == 0.5


def test_canonical_text() -> None:
    assert canonical({"b": 1, "a": [1.5, {"d": None, "c": "x"}]}) == (
        '{"a":[1.5,{"c":"x","d":null}],"b":1}'
    )


def test_schema_file_is_current() -> None:
    stored = (ROOT / "config" / "schema.json").read_text()
    assert stored == json.dumps(json_schema(), indent=2) + "\n", "run `mclr schema`"


def test_schema_accepts_digits_and_rejects_mistakes() -> None:
    content, schema = yaml.safe_load(DIGITS.read_text()), json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    for path, value in {"evaluation.zzz": 1, "seeds": [], "models.var.base.lr": 0}.items():
        wrong = yaml.safe_load(DIGITS.read_text())
        put(path, value)(wrong)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
