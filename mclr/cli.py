"""The command line: commands for people, and one subcommand per job of the workflow.

Heavy imports happen inside the commands, so that ``mclr --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from mclr.commands import (
    analysis,
    data,
    doctor,
    evaluation,
    models,
    new,
    plan,
    released,
    results,
    store,
    theory,
    training,
    weights,
)
from mclr.commands.options import PATH
from mclr.errors import UserError, printable
from mclr.events import LOG, set_up_logging
from mclr.extras import told
from mclr.terminal import clean_line

FOR_PEOPLE = (
    *(new.new, plan.plan, doctor.doctor, results.show, results.track),
    *(models.draw, models.export_model),
    *(weights.import_weights, weights.export_weights, weights.reconstruct_ema),
    *(store.check_store, results.schema),
)
JOBS = (
    *(data.fetch, data.prepare, data.prepare_images, data.encode),
    *(released.fetch_released, released.import_base, released.import_tokenizer),
    *(released.published_net, training.feature_net, training.tokenizer),
    *(training.base, training.negatives, training.finetune),
    *(evaluation.sample, evaluation.evaluate, evaluation.floors),
    *(evaluation.select, evaluation.best, evaluation.metrics),
    *(results.effective_config, results.table, results.figures, results.report),
    *(analysis.claims, analysis.similarity, analysis.separation),
    *(theory.theory, theory.theory_page),
)


class Sections(click.Group):
    """A group whose help lists what people use before what the workflow calls, in that order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for title, commands in (
            ("Commands", FOR_PEOPLE),
            ("Jobs of the workflow, which `snakemake` runs", JOBS),
        ):
            with formatter.section(title):
                room = formatter.width - 6 - width
                rows = [(str(c.name).ljust(width), c.get_short_help_str(room)) for c in commands]
                formatter.write_dl(rows)


@click.group(
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    envvar="MCLR_DEVICE",
    show_default=True,
    show_envvar=True,
    help="Where networks compute; auto: on this process's GPU if there is one.",
)
@click.option("--log", type=PATH, help="Also write messages to this file.")
@click.pass_context
def cli(context: click.Context, debug: bool, threads: int, device: str, log: Path | None) -> None:
    """Reproduce the MCLR paper, and fine-tune one's own models the same way.

    \b
    Examples:
      mclr new birds --images photos/birds     a configuration for one's own images
      mclr plan config/imagenet.yaml           what would the paper's experiments cost?
      mclr show --config config/digits.yaml    Table 1 of a tier that was run
      mclr draw --model my-model --output grid.png

    Completion of commands and options, for bash (zsh and fish likewise):

    \b
      eval "$(_MCLR_COMPLETE=bash_source mclr)"

    Exit status: 0 done; 1 something that was looked for is wrong; 2 a mistake in what was asked.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    context.obj = threads
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    set_up_logging(log if first else None, progress=first)


for command in (*FOR_PEOPLE, *JOBS):
    cli.add_command(command)
# Here and not above, since all jobs depend on the text of ``cli``.
click.version_option(package_name="mclr", prog_name="mclr", message="%(prog)s %(version)s")(cli)


def main() -> None:
    """Entry point: user errors are one line on standard error and exit status 2."""
    debug = "--debug" in sys.argv[1:]
    try:
        try:
            cli(standalone_mode=False)
        finally:
            clean_line()
    except UserError as error:
        if debug:
            raise
        LOG.error("mclr: error: %s", printable(str(error)))
        sys.exit(2)
    except ValueError as error:
        from pydantic import ValidationError

        if debug or not isinstance(error, ValidationError):
            raise
        LOG.error("mclr: error: --spec: %s", printable(" ".join(str(error).split())))
        sys.exit(2)
    except ImportError as error:
        if debug or not told(error):
            raise
        LOG.error("mclr: error: %s", told(error))
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)


if __name__ == "__main__":
    main()
