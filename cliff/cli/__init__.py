"""The command ``cliff``: parse, call, print.

The modules here import typer and the standard library only; each command imports what it needs when
it runs, so that ``cliff --help`` is there at once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from cliff.checks import ArgumentError
from cliff.cli.common import ComputationFailed, describe
from cliff.cli.compare import compare
from cliff.cli.curriculum import curriculum
from cliff.cli.derive import derive
from cliff.cli.explore import explore
from cliff.cli.flow import flow
from cliff.cli.landscapes import spread
from cliff.cli.phase import phase
from cliff.cli.plot import plot
from cliff.cli.progress import StandardError
from cliff.cli.train import train
from cliff.interrupt import exit_code, handled_by

# typer brings its own copy of click, and names this class only through its children
ParserError: type[Exception] = typer.BadParameter.__mro__[2]


class _Interrupted(Exception):
    """KeyboardInterrupt as an exception that typer does not answer by itself."""


def _with_bare_flags(params: list[Any]) -> list[Any]:
    """Show a flag without the type that typer prints behind it."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = " "
    return params


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args))

    def get_params(self, ctx: Any) -> list[Any]:
        return _with_bare_flags(super().get_params(ctx))


class _Commands(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _with_bare_flags(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error


app = typer.Typer(
    name="cliff",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
commands: tuple[Callable[..., object], ...] = (
    flow, derive, phase, train, compare, plot, curriculum, explore,
)  # fmt: skip
for command in commands:
    app.command(cls=_Command)(command)


def _show_version(asked: bool) -> None:
    if asked:
        from cliff import __version__

        print(f"cliff {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _group(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """The loss landscape behind the sudden emergence of in-context learning.

    Losses are in nats, times in gradient-flow time (learning rate x steps).
    """
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 done, 1 the computation failed, 2 bad usage, 130 Ctrl-C, 143 SIGTERM.
    """
    _prepare_process()
    sys.exit(_run(arguments))


def _prepare_process() -> None:
    """Settle what the surroundings of the process could otherwise break in mid-computation."""
    os.environ["MPLBACKEND"] = "agg"  # a notebook's backend is inherited and needs the notebook
    if not os.environ.get("COLUMNS", "1").strip("0"):
        del os.environ["COLUMNS"]  # some batch systems set a width of 0
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before the process began
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)
    sys.stderr = StandardError()
    if hasattr(sys.stdout, "reconfigure"):  # names and signs beyond the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")


def _leave(number: int, _: object) -> None:
    """End the process at a signal where nothing is under way that has to be kept.

    Raised as an exception, a signal is lost if it comes amid a callback of the compiler or of an
    import. Code that has something to keep handles signals by `cliff.interrupt.deferred`.
    """
    with suppress(OSError):  # closed, or its reader has gone
        os.write(2, b"cliff: interrupted\n")  # print may be what was interrupted
    os._exit(128 + number)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        with handled_by(_leave):
            code = int(app(args=arguments, prog_name="cliff", standalone_mode=False) or 0)
            sys.stdout.flush()
            return code
    except ParserError as error:
        return _complain(_in_words(error), 2)
    except ArgumentError as error:
        return _complain(describe(error), 2)
    except BrokenPipeError:  # the reader of standard output has gone, as in `cliff ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ComputationFailed, OSError, MemoryError) as error:
        return _complain(str(error) or type(error).__name__, 1)
    except _Interrupted as interrupted:
        # objects that the signal left half made, llvmlite's above all, may complain when they go
        sys.unraisablehook = lambda _: None
        cause = interrupted.__cause__
        assert isinstance(cause, KeyboardInterrupt)
        return _complain(str(cause) or "interrupted", exit_code(cause))


def _in_words(error: Any) -> str:
    """The parser's message, for a wrong choice in the form of the library's own messages."""
    choice = re.fullmatch(r"Value error, '(.*)' is not one of (.*)\.", error.message or "")
    if choice and error.param:
        value, allowed = choice.groups()
        name = error.param.opts[0]
        name = name if name.startswith("-") else name.upper()  # an argument, as the help names it
        return f"{name} {value}: must be one of {allowed.replace(chr(39), '')}"
    return str(error.format_message())


def _complain(message: str, code: int) -> int:
    print("cliff:", " ".join(message.split()), file=sys.stderr)
    return code
