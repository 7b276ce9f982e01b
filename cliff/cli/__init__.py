"""The command ``cliff``: parse, call, print.

The modules here import typer and the standard library only; each command imports what it needs when
it runs, so that ``cliff --help`` is there at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click
import typer

from cliff.checks import ArgumentError
from cliff.cli.common import ComputationFailed, describe
from cliff.cli.flow import flow
from cliff.cli.train import train

app = typer.Typer(
    name="cliff",
    help="The loss landscape behind the sudden emergence of in-context learning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(flow)
app.command()(train)


@app.callback()
def _group() -> None:
    """Keep the commands a group, however few there are."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 the computation failed, 2 bad usage, 130 Ctrl-C."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=arguments, prog_name="cliff", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else "", file=sys.stderr)
        return 2
    except click.ClickException as error:
        return _complain(" ".join(error.format_message().split()), 2)
    except ArgumentError as error:
        return _complain(describe(error), 2)
    except ComputationFailed as error:
        return _complain(str(error), 1)
    except OSError as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted", 130)
    return int(code or 0)


def _complain(message: str, code: int) -> int:
    print(f"cliff: {message}", file=sys.stderr)
    return code
