"""The command line answers at once, and a mistake is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import Trained

from mclr import cli
from mclr.files import load_tensors, read_json, sha256
from mclr.planning.plan import Plan
from mclr.settings.section import canonical

Outcome = tuple[int, str, str]


@pytest.fixture
def mclr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``mclr …`` in this process: exit status, standard output, standard error."""

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mclr", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        else:
            status = 0
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


HEAVY = ("torch", "pandas", "numpy", "mlflow", "matplotlib", "sklearn", "pydantic", "yaml")


def test_help_without_heavy_imports() -> None:
    script = (
        "import sys; sys.argv = ['mclr', '--help']\n"
        "from mclr.cli import main\n"
        "try: main()\nfinally: print([m for m in sys.modules if m in "
        f"{HEAVY!r}], file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0 and found.stderr.strip() == "[]"
    assert found.stdout.startswith("Usage: ")
    for command in cli.cli.commands:
        assert f"\n  {command} " in found.stdout


@pytest.mark.parametrize("command", sorted(cli.cli.commands))
def test_every_command_explains_itself(mclr: Any, command: str) -> None:
    status, out, _ = mclr(command, "--help")
    assert status == 0 and f"mclr {command}" in out.replace("cli ", "mclr ")
    assert "Options:" in out


def test_user_error_is_one_line(mclr: Any, tmp_path: Path) -> None:
    config = tmp_path / "absent.yaml"
    status, out, err = mclr("table", "--config", config, "--metrics", config, "--output", config)
    assert (status, out) == (2, "")
    assert err.startswith("mclr: error: ") and err.count("\n") == 1


def test_user_error_goes_to_the_log_too(mclr: Any, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "job.log"
    status, _, err = mclr("--log", log, "fetch", "--source", "mnist", "--output", tmp_path / "x")
    assert status == 2
    assert err.startswith("mclr: error: ") and "choose from digits, fashion-mnist" in err
    assert err.strip() in log.read_text() and "Traceback" not in log.read_text()


def test_debug_shows_the_traceback() -> None:
    arguments = [sys.executable, "-m", "mclr.cli", "--debug"]
    arguments += ["fetch", "--source", "mnist", "--output", "/tmp/x"]
    found = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert found.returncode != 0
    assert "Traceback (most recent call last)" in found.stderr
    assert "UserError: " in found.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["fetch"], "Missing option '--source'"),
        (["prepare", "--spec", "{", "--raw", "x", "--output", "y"], "not valid JSON"),
        (["sample", "--features", "cnn"], "expected NAME=PATH, got 'cnn'"),
        (["--threads", "0", "fetch"], "--threads"),
    ],
)
def test_wrong_usage(mclr: Any, arguments: list[str], text: str) -> None:
    status, _, err = mclr(*arguments)
    assert status == 2 and text in err and "Traceback" not in err


def test_fetch_and_prepare(mclr: Any, tiny_plan: Plan, prepared: Path, tmp_path: Path) -> None:
    raw, spec = tmp_path / "digits.raw", canonical(tiny_plan.tier.data)
    assert mclr("fetch", "--source", "digits", "--output", raw)[0] == 0
    status = mclr("prepare", "--spec", spec, "--raw", raw, "--output", tmp_path / "out")[0]
    assert status == 0
    for name in ("train.parquet", "reference.parquet", "manifest.json"):
        assert sha256(tmp_path / "out" / name) == sha256(prepared / name)


def test_effective_config(mclr: Any, tiny_plan: Plan, tmp_path: Path) -> None:
    spec, output = canonical(tiny_plan.tier), tmp_path / "config.yaml"
    assert mclr("effective-config", "--spec", spec, "--output", output)[0] == 0
    assert yaml.safe_load(output.read_text()) == json.loads(spec)


def test_jobs_from_training_to_metrics(
    mclr: Any, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    """The commands of the rules, in their order, for one experiment (DDO of VAR)."""
    name, run_id, tokenizer = "var-ddo", "var-ddo-seed0", ("--tokenizer", trained.tokenizer)
    negatives, net = tmp_path / "negatives.safetensors", f"cnn={trained.net}"
    manifest = ("--manifest", trained.manifest)
    made = mclr(
        "negatives", "--spec", canonical(tiny_plan.negatives_spec("var")), *manifest,
        "--weights", trained.var, *tokenizer, "--output", negatives,
    )  # fmt: skip
    assert made[0] == 0 and len(load_tensors(negatives)[0]["x"]) == 24
    for run_id in (f"{name}-seed0", f"{name}-seed1"):
        status, _, err = mclr(
            "finetune", "--spec", canonical(tiny_plan.finetune_spec(run_id)),
            "--data", trained.prepared, "--base", trained.var, *tokenizer,
            "--negatives", negatives, "--run", tmp_path / "runs" / run_id,
            "--state", tmp_path / "state",
        )  # fmt: skip
        assert status == 0 and f"{run_id}: 4/4, " in err and "images/s, ETA 0:00" in err
    for point in tiny_plan.points(name):
        folder = tmp_path / "features" / point.path
        weights = f"checkpoints/step-{point.step:06d}.safetensors"
        for shard in ("000", "001"):
            status, _, _ = mclr(
                "sample", "--spec", canonical(tiny_plan.sample_spec(point)), "--shard", shard,
                *manifest, "--weights", tmp_path / "runs" / point.run.run_id / weights, *tokenizer,
                "--features", net, "--output", folder / f"shard-{shard}.parquet",
                "--grid", tmp_path / "grid.png",
            )  # fmt: skip
            assert status == 0
    evaluation = tmp_path / "evaluation.json"
    status, _, _ = mclr(
        "evaluate", "--spec", canonical(tiny_plan.evaluate_spec(name)), *manifest,
        "--features", net, "--samples", tmp_path / "features", "--output", evaluation,
    )  # fmt: skip
    assert status == 0 and len(read_json(evaluation)["rows"]) == 4
    status, _, _ = mclr(
        "metrics", "--runs", tmp_path / "runs", "--output", tmp_path / "metrics.parquet",
        "--protocols", tmp_path / "protocols.json", evaluation,
    )  # fmt: skip
    assert status == 0 and (tmp_path / "metrics.parquet").is_file()
    status, _, err = mclr(
        "best", "--evaluation", evaluation, "--by", "cnn", "--output", tmp_path / "best"
    )
    assert status == 2 and "checkpoint is missing" in err  # rows name results/tiny/…


def test_feature_net_tokenizer_and_base(
    mclr: Any, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    data = ("--data", trained.prepared, "--state", tmp_path / "state")
    spec = canonical(tiny_plan.tier.features["cnn"])
    made = mclr("feature-net", "--spec", spec, *data, "--output", tmp_path / "cnn")
    assert made[0] == 0
    for name in ("info.json", "net.safetensors"):
        assert sha256(tmp_path / "cnn" / name) == sha256(trained.net / name)
    tokenizer = tmp_path / "t" / "var.safetensors"
    spec = canonical(tiny_plan.tokenizer_spec("var"))
    assert mclr("tokenizer", "--spec", spec, *data, "--output", tokenizer)[0] == 0
    assert sha256(tokenizer) == sha256(trained.tokenizer)
    spec, run = canonical(tiny_plan.base_spec("var")), tmp_path / "var-base"
    assert mclr("base", "--spec", spec, *data, "--tokenizer", tokenizer, "--run", run)[0] == 0
    last = run / "checkpoints" / "step-000004.safetensors"
    assert sha256(last) == sha256(trained.var)


def test_an_unwritable_log_is_one_line(mclr: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = tmp_path / "file" / "log"
    status, _, err = mclr("--log", log, "fetch", "--source", "x", "--output", "y")
    assert status == 2
    assert err.count("\n") == 1 and "log cannot be written" in err


@pytest.mark.parametrize("content", [b"", b"PAR1" * 9], ids=["empty", "no table"])
def test_damaged_metrics_are_one_line(
    mclr: Any, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path("config/digits.yaml").resolve()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "digits").mkdir(parents=True)
    (tmp_path / "results" / "digits" / "metrics.parquet").write_bytes(content)
    status, _, err = mclr("show", "--config", config)
    assert status == 2
    assert err.count("\n") == 1 and "metrics.parquet: not a readable Parquet table" in err


def test_a_bad_specification_is_one_line(mclr: Any, tmp_path: Path) -> None:
    status, _, err = mclr("prepare", "--spec", "{}", "--raw", "raw", "--output", tmp_path)
    assert status == 2
    assert err.count("\n") == 1 and "source" in err


@pytest.mark.parametrize(
    ("section", "edit", "text"),
    [
        ("run", {"lrr": 1}, "run.lrr: Extra inputs are not permitted"),
        ("run", {"lr": "fast"}, "run.lr: Input should be a valid number"),
        ("run", {"checkpoints": [4, 2]}, "run.checkpoints: Value error, steps must increase"),
        ("network", {"depth": 2}, "network.edm2.depth: Extra inputs are not permitted"),
        ("identity", {"seed": None}, "identity.seed: Input should be a valid integer"),
    ],
)
def test_the_key_of_a_specification_that_is_wrong_is_named(
    mclr: Any, tiny_plan: Plan, section: str, edit: dict[str, Any], text: str
) -> None:
    content = tiny_plan.finetune_spec("edm2-mclr-seed0").content()
    content[section] |= edit
    places = [part for name in ("data", "base", "run", "state") for part in (f"--{name}", "x")]
    status, _, err = mclr("finetune", "--spec", json.dumps(content), *places)
    assert status == 2 and err.count("\n") == 1
    assert err.startswith(f"mclr: error: --spec: {text}")


SPECIFIED = [c for c in cli.JOBS if any(option.name == "spec" for option in c.params)]


@pytest.mark.parametrize("command", SPECIFIED, ids=lambda command: command.name)
def test_every_command_says_that_its_specification_is_no_json(mclr: Any, command: Any) -> None:
    required = [option for option in command.params if option.required and option.name != "spec"]
    given = [
        part
        for option in required
        for part in (option.opts[0], "cnn=1" if option.name == "nets" else "1")
    ]
    status, _, err = mclr(command.name, "--spec", '{"tier":', *given)
    assert status == 2 and err.count("\n") == 1
    assert err.startswith("mclr: error: --spec: not valid JSON")


def test_schema_command_prints_the_committed_schema(mclr: Any) -> None:
    status, out, _ = mclr("schema")
    assert status == 0
    assert out == Path("config/schema.json").read_text()


def test_people_find_their_commands_first(mclr: Any) -> None:
    _, out, _ = mclr("--help")
    people, jobs = out.partition("\nCommands:")[2].split("\n\nJobs of the workflow")
    listed = [[line.split()[0] for line in part.splitlines()[1:]] for part in (people, jobs)]
    assert listed == [[str(c.name) for c in part] for part in (cli.FOR_PEOPLE, cli.JOBS)]


def test_a_shell_completes_commands_and_choices() -> None:
    def complete(*words: str) -> list[str]:
        variables = {"COMP_WORDS": " ".join(["mclr", *words]), "COMP_CWORD": str(len(words))}
        variables["_MCLR_COMPLETE"] = "bash_complete"
        script = "import sys; sys.argv = ['mclr']; from mclr.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, **variables},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert complete("exp") == ["export-model", "export-weights"]
    assert complete("--device", "c") == ["cpu", "cuda"]
    assert complete("plan", "--gpu", "h") == ["h100", "h200"]


def test_version(mclr: Any) -> None:
    from importlib.metadata import version

    assert mclr("--version") == (0, f"mclr {version('mclr')}\n", "")


@pytest.mark.parametrize("option", ["--output", "--out"])
@pytest.mark.parametrize(
    "arguments", [("import-weights",), ("export-weights",), ("draw", "--model")], ids=lambda a: a[0]
)
def test_output_goes_by_its_older_name_too(
    mclr: Any, arguments: tuple[str, ...], option: str, tmp_path: Path
) -> None:
    status, _, err = mclr(*arguments, tmp_path / "absent", option, tmp_path / "x.safetensors")
    assert status == 2 and err.startswith(f"mclr: error: {tmp_path}/absent: ")


def test_what_people_write_is_named_by_output() -> None:
    """A command of theirs has no other option that says where its result goes."""
    for command in cli.FOR_PEOPLE:
        names = [option for parameter in command.params for option in parameter.opts]
        assert ("--output" in names) or ("--out" not in names), command.name
