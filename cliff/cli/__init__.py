"""The command ``cliff``: parse, call, print.

The modules here import typer and the standard library only; each command imports what it needs when
it runs, so that ``cliff --help`` is there at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from cliff.checks import ArgumentError
from cliff.cli.common import ComputationFailed, Interrupted, describe, on_interrupt
from cliff.cli.compare import compare
from cliff.cli.derive import derive
from cliff.cli.flow import flow
from cliff.cli.phase import phase
from cliff.cli.plot import plot
from cliff.cli.train import train
from cliff.interrupt import exit_code

# typer brings its own copy of click, and names this class only through its children
ParserError: type[Exception] = typer.BadParameter.__mro__[2]


class _Commands(TyperGroup):
    """Commands whose Ctrl-C is told as all else that ends them; typer's exit has no words."""

    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted") from error


app = typer.Typer(
    name="cliff",
    cls=_Commands,
    help="The loss landscape behind the sudden emergence of in-context learning.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(flow)
app.command()(derive)
app.command()(phase)
app.command()(train)
app.command()(compare)
app.command()(plot)


@app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 the computation failed, 2 bad usage, 130 Ctrl-C."""
    sys.exit(_run(arguments))


def _leave(*_: object) -> None:
    """End the process on Ctrl-C where nothing is under way that has to be kept.

    Raised as an exception, Ctrl-C is lost if it comes amid a callback of the compiler or of an
    import. What has to be kept sees to Ctrl-C itself: a `Bar`, a run's steps, runs side by side.
    """
    os.write(2, b"cliff: interrupted\n")  # print may be what was interrupted
    os._exit(130)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        with on_interrupt(_leave):
            return int(app(args=arguments, prog_name="cliff", standalone_mode=False) or 0)
    except ParserError as error:
        return _complain(error.format_message(), 2)  # type: ignore[attr-defined]
    except ArgumentError as error:
        return _complain(describe(error), 2)
    except (ComputationFailed, OSError, MemoryError) as error:
        return _complain(str(error) or type(error).__name__, 1)
    except Interrupted as error:
        # objects that Ctrl-C left half made, llvmlite's above all, may complain when they go
        sys.unraisablehook = lambda _: None
        cause = error.__cause__
        return _complain(
            str(error), exit_code(cause) if isinstance(cause, KeyboardInterrupt) else 130
        )


def _complain(message: str, code: int) -> int:
    print("cliff:", " ".join(message.split()), file=sys.stderr)
    return code
