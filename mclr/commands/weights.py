"""Commands that convert weights between official files and ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mclr.commands.people import Writes, output_option

PATH = click.Path(path_type=Path)


class _Sides(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas."""

    name = "n,n,…"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"expected whole numbers with commas, got {value!r}", param, ctx)


class _Assumption(click.ParamType[tuple[str, str]]):
    """A key and its value."""

    name = "key=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        key, equals, said = str(value).partition("=")
        if not (key and equals and said):
            self.fail(f"expected KEY=VALUE, got {value!r}", param, ctx)
        return key, said


@click.command(cls=Writes)
@click.argument("source", type=PATH)
@output_option("File to write: X.safetensors, and X.json.", "--out")
@click.option(
    "--kind",
    type=click.Choice(["edm2", "var", "vqvae", "statistics"]),
    help="What SOURCE is; default: recognised from its content.",
)
@click.option("--sha256", help="Expected digest of SOURCE, compared before it is read.")
@click.option(
    "--patch-nums",
    type=_Sides(),
    help="Grid sides of a VAR tokenizer's scales, if its file does not tell them; default: the ten "
    "of 256 pixels.",
)
@click.option(
    "--assume",
    "assumptions",
    type=_Assumption(),
    multiple=True,
    help="Another value of what VAR files do not tell: num_heads (without attn_l2_norm) and "
    "norm_eps of a transformer, using_znorm and quant_resi of a tokenizer.",
)
def import_weights(
    source: Path,
    output: Path,
    kind: Any,
    sha256: str | None,
    patch_nums: tuple[int, ...] | None,
    assumptions: tuple[tuple[str, str], ...],
) -> None:
    """Convert official weights to safetensors, executing no code of SOURCE.

    SOURCE: a network pickle of EDM2 (.pkl), a VAR transformer or tokenizer (.pth, or
    .safetensors with the same names), or reference statistics of a data set (.pkl, .npz).
    """
    from mclr.weights.importer import import_weights as run

    told: dict[str, Any] = dict(assumptions)
    if patch_nums:
        told["patch_nums"] = patch_nums
    header = run(source, output, kind, sha256, told)
    unit = "values" if header.kind == "statistics" else "parameters"
    click.echo(f"{header.kind}: {header.parameters:,} {unit}, {header.stored_dtype}, in {output}")
    for key, value in header.assumed.items():
        click.echo(f"not in the file, so assumed: {key} = {value}")
    for what in header.undone:
        click.echo(f"otherwise in the file: {what}")


@click.command(cls=Writes)
@click.argument("weights", type=PATH)
@output_option("File to write (.pkl for EDM2, else .pth).", "--out")
@click.option("--like", type=PATH, help="EDM2: the official pickle to take all but weights from.")
def export_weights(weights: Path, output: Path, like: Path | None) -> None:
    """Write WEIGHTS (.safetensors) as the official tools read them."""
    from mclr.weights.export import export_weights as run

    done = run(weights, output, like)
    click.echo(f"{done.kind}: {done.parameters:,} parameters, {done.dtype}, in {output}")


@click.command(cls=Writes)
@click.argument("snapshots", type=PATH, nargs=-1, required=True)
@click.option("--std", type=float, required=True, help="Averaging length σ_rel, such as 0.085.")
@click.option("--time", type=float, help="kimg of the result; default: the last snapshot's.")
@output_option("File to write: X.safetensors, and X.json.", "--out")
def reconstruct_ema(
    snapshots: tuple[Path, ...], std: float, time: float | None, output: Path
) -> None:
    """Average EDM2's SNAPSHOTS to another length, after training (post-hoc EMA).

    SNAPSHOTS: imported networks whose names end with -<kimg>-<std>.safetensors, as EDM2 names
    them, of every time and length that was stored.
    """
    from mclr.weights.average import reconstruct_checkpoint

    header = reconstruct_checkpoint(snapshots, output, std, time)
    used = len(header.training["ema_from"])
    click.echo(
        f"{header.kind}: std {std:g} from {used} snapshots, {header.stored_dtype}, in {output}"
    )
