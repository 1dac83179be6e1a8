"""The command `segvol-gru`: every command is a function whose signature is its manual.

Modules of commands import PyTorch inside their functions, so that help comes at once.
"""

from __future__ import annotations

from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from segvol_gru.errors import InputError
from segvol_gru.interfaces.commands.calibrate import calibrate
from segvol_gru.interfaces.commands.challenge import predict_challenge
from segvol_gru.interfaces.commands.competition import challenge
from segvol_gru.interfaces.commands.coreset import coreset
from segvol_gru.interfaces.commands.demo import demo
from segvol_gru.interfaces.commands.doctor import doctor
from segvol_gru.interfaces.commands.evaluate import evaluate
from segvol_gru.interfaces.commands.finetune import finetune
from segvol_gru.interfaces.commands.pack import pack
from segvol_gru.interfaces.commands.prepare import prepare
from segvol_gru.interfaces.commands.report import report
from segvol_gru.interfaces.commands.segment import segment
from segvol_gru.interfaces.commands.serve import serve
from segvol_gru.interfaces.commands.train import export, train
from segvol_gru.interfaces.commands.weights import import_weights, info
from segvol_gru.interfaces.console import refuse

USAGE = 2  # exit code of a command that was refused
STOPPED = 130  # and of one that Ctrl-C ended, as shells have it


class Group(TyperGroup):
    """Commands whose refusals are one sentence, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an `InputError` ends it with exit code 2, Ctrl-C with 130.

        What either has to say goes to standard error.
        """
        try:
            return super().invoke(ctx)
        except InputError as error:
            refuse(str(error))
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt as stop:
            if stop.args:
                refuse(str(stop))
            raise typer.Exit(STOPPED) from None


app = typer.Typer(
    cls=Group,
    help="Interactive segmentation of 3-D medical images: a box, then clicks. "
    "Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights = typer.Typer(help="Weight files.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(weights, name="weights")

for command in (
    segment,
    serve,
    demo,
    doctor,
    evaluate,
    report,
    calibrate,
    challenge,
    coreset,
    predict_challenge,
    prepare,
    pack,
    train,
    finetune,
    export,
    info,
):
    app.command()(command)
weights.command("import")(import_weights)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(metadata.version("segvol-gru"))
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and stop.")
    ] = False,
) -> None:
    """Take the options before the command."""
