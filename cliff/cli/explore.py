"""``cliff explore``: the landscape under sliders, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cliff.checks import ArgumentError
from cliff.cli.common import ComputationFailed, Quiet, announce_compiling, say


def explore(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Training runs to lay over the flow."),
    ] = None,
    port: Annotated[
        int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)
    ] = 5006,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    quiet: Quiet = False,
) -> int:
    """Open a page on this machine that shows the flow under sliders; Ctrl-C ends it.

    The page is served to this machine alone. It needs the extra explore: pip install
    'cliff-icl[explore]'

    Example: cliff explore training.nc
    """
    try:
        import bokeh  # noqa: F401
    except ImportError:
        raise ComputationFailed(
            "explore needs the extra explore: pip install 'cliff-icl[explore]'"
        ) from None
    from cliff.explore.page import serve
    from cliff.explore.view import NetworkRun, Setting, view

    runs = []
    for file in files or ():
        try:
            runs.append(NetworkRun.read(file))
        except ArgumentError as error:
            raise ArgumentError("run", str(file), error.requirement) from None
    announce_compiling(quiet)
    view(Setting())  # compiles before anybody waits for a slider

    def ready(address: str) -> None:
        say(f"serving {address} to this machine; Ctrl-C ends it", quiet)
        if browser:
            import webbrowser

            webbrowser.open(address)

    try:
        serve(port, runs, ready)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArgumentError("port", port, f"cannot be served: {reason}") from None
    return 0
