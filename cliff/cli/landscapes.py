"""The landscape of a command: a name or a file, its constants, and numbers for its components."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cliff.checks import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cliff.protocol import LandscapeLike

NESTED_LOGIT = "nested-logit"
OF_NESTED_LOGIT = (
    *("pairs", "labels", "positions", "label_bias", "bias_init", "bias_mobility", "memory"),
    *("n_classes", "zipf_exponent", "burstiness", "noise", "p_bursty", "p_novel", "labels_drawn"),
)
"""Options, by their parameters' names, that the nested logit alone has."""

VARIADIC = ("--init", "--mobility", "--set")
"""Options that take one or more numbers, or NAME=VALUE, at a time."""

LandscapeName = Annotated[
    str,
    typer.Option(
        "--landscape",
        metavar="NAME|FILE.py:OBJECT",
        help="nested-logit, one of cliff.landscapes.GALLERY, or an object in a Python file, which "
        "is run: use files that you trust.",
    ),
]
Constants = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE ...", help="Constants of another landscape."),
]
Init = Annotated[
    list[str] | None,
    typer.Option(
        metavar="BETA1 ALPHA XI | NAME=VALUE ...",
        help="Start: a number for each component, or some by name.",
        show_default="0.01 each",
    ),
]
Mobility = Annotated[
    list[str] | None,
    typer.Option(
        metavar="M M M | NAME=VALUE ...",
        help="Mobilities, at least 0: a number for each component, or some by name.",
        show_default="1 each",
    ),
]


def spread(arguments: Sequence[str]) -> list[str]:
    """Repeat a variadic option before each of its values, as the parser wants it.

    Values after the first one are what reads as a number or as NAME=VALUE.
    """
    found: list[str] = []
    option = ""
    for argument in arguments:
        if not (option and _is_value(argument)):
            option = argument if argument in VARIADIC else ""
        elif found[-1] != option:
            found.append(option)
        found.append(argument)
    return found


def _is_value(argument: str) -> bool:
    try:
        float(argument)
    except ValueError:
        return "=" in argument and not argument.startswith("-")
    return True


def given(context: typer.Context) -> set[str]:
    """Parameters that stand on the command line."""
    sources = {name: str(context.get_parameter_source(name)) for name in context.params}
    return {name for name, source in sources.items() if source.endswith("COMMANDLINE")}


def chosen_landscape(context: typer.Context, **nested: Any) -> LandscapeLike:
    """The landscape that the options name.

    Parameters
    ----------
    context : typer.Context
    **nested
        Arguments of `NestedLogit`, if it is the one.

    Raises
    ------
    ArgumentError
        If the landscape is unknown, its file or its constants are wrong, or an option belongs to
        another landscape.
    """
    name, constants = context.params["landscape"], context.params.get("constants")
    if is_nested_logit(name):
        from cliff import NestedLogit

        if constants:
            raise ArgumentError(
                "set", constants[0], "the nested logit has --pairs, --labels and --label-bias"
            )
        return NestedLogit(**nested)
    for option in OF_NESTED_LOGIT:
        if option in given(context):
            value = context.params[option]
            raise ArgumentError(option, value, f"is an option of the nested logit, not of {name}")
    model = from_file(name) if ":" in name or name.endswith(".py") else from_gallery(name)
    pairs = [_pair("set", text) for text in constants or ()]
    _refuse_twice("set", [key for key, _ in pairs])
    values = {key: int(v) if v.is_integer() and abs(v) < 1e15 else v for key, v in pairs}
    if context.params.get("output") is not None:
        _check_storable(name, model)
    try:
        return model.with_constants(**values)
    except ArgumentError as error:
        text = f"{error.argument}={values[error.argument]:g}" if error.argument in values else ""
        raise ArgumentError("set", text or " ".join(constants or ()), error.requirement) from None


def _check_storable(name: str, model: LandscapeLike) -> None:
    """Refuse, before any work, a landscape that no file can hold."""
    from cliff.trajectory import landscape_and_settings

    try:
        landscape_and_settings(model.settings())
    except (ArgumentError, KeyError, TypeError) as error:
        told = "is made of functions, which no file can hold: leave out --output"
        raise ArgumentError("landscape", name, told) from error


def is_nested_logit(name: str) -> bool:
    """Whether a landscape's name means the nested logit."""
    return name.replace("_", "-") == NESTED_LOGIT


def from_gallery(name: str) -> LandscapeLike:
    """The landscape of that name in `cliff.landscapes`."""
    from cliff.landscapes import GALLERY

    key = name.replace("-", "_")
    if key not in GALLERY:
        known = ", ".join((NESTED_LOGIT, *GALLERY))
        raise ArgumentError("landscape", name, f"must be FILE.py:OBJECT or one of {known}")
    return GALLERY[key]()


def from_file(text: str) -> LandscapeLike:
    """The landscape FILE.py:OBJECT. The file is run, as by ``python FILE.py``."""
    import runpy
    from inspect import getattr_static

    from cliff.protocol import LandscapeLike

    path, _, name = text.rpartition(":")
    if not path or not name.isidentifier():
        raise ArgumentError("landscape", text, "must name an object: FILE.py:OBJECT")
    if not os.path.isfile(path):
        raise ArgumentError("landscape", text, f"there is no file {path}")
    with _as_script(path):
        try:
            found = runpy.run_path(path, run_name="<landscape>")
        except (Exception, SystemExit) as error:
            told = f"line {_line(error, path)} raised {type(error).__name__}: {error}"
            raise ArgumentError("landscape", text, told) from error
    if name not in found:
        raise ArgumentError("landscape", text, f"{path} has no object {name}")
    model = found[name]
    wanted = [n for n in dir(LandscapeLike) if not n.startswith("_")]
    if isinstance(model, type) or any(getattr_static(model, n, None) is None for n in wanted):
        kind = type(model).__name__
        raise ArgumentError("landscape", text, f"{name} is no landscape but of the type {kind}")
    return model


def _line(error: BaseException, path: str) -> int | str:
    """The line of a file in which an error arose."""
    if isinstance(error, SyntaxError):
        return error.lineno or "?"
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or "?" for frame in reversed(frames) if frame.filename == path), "?")


@contextmanager
def _as_script(path: str) -> Iterator[None]:
    """Let a file import its neighbours, and print where it does not mix with our output."""
    folder = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path.remove(folder)


def components(
    option: Literal["init", "mobility"],
    texts: Sequence[str] | None,
    names: Sequence[str],
    defaults: Sequence[float],
    n_positional: int | None = None,
) -> list[float]:
    """A number for each component of theta from an option's values.

    Parameters
    ----------
    option : str
    texts : sequence of str, or None
        Numbers in order, or NAME=VALUE; what is not given has its default.
    names : sequence of str, length p
    defaults : sequence of float, length p
    n_positional : int, optional
        How many numbers in order there have to be, if not p.

    Raises
    ------
    ArgumentError
        If a text is no number, a name is unknown or given twice, or the count is wrong.
    """
    values, texts = dict(zip(names, defaults, strict=True)), texts or ()
    if any("=" in text for text in texts):
        pairs = [_pair(option, text) for text in texts]
        _refuse_twice(option, [key for key, _ in pairs])
        for (name, value), text in zip(pairs, texts, strict=True):
            if name not in values:
                raise ArgumentError(option, text, "NAME must be one of " + ", ".join(names))
            values[name] = value
    elif texts:
        numbers = [_number(option, text, text) for text in texts]
        count = len(names) if n_positional is None else n_positional
        if len(numbers) != count:
            raise ArgumentError(
                option, " ".join(texts), f"needs {count} numbers, {' '.join(names[:count])}"
            )
        values |= dict(zip(names, numbers, strict=False))
    return list(values.values())


def named(texts: Sequence[str] | None) -> Mapping[str, str]:
    """The values of an option that are NAME=VALUE, by name."""
    return {text.partition("=")[0]: text for text in texts or () if "=" in text}


def _pair(option: str, text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentError(option, text, "must be NAME=VALUE")
    return name, _number(option, text, value)


def _number(option: str, text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ArgumentError(option, text, "must be a number or NAME=VALUE") from None


def _refuse_twice(option: str, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ArgumentError(option, name, "is given twice")
