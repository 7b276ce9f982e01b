"""What identifies a function in a file: its name, its settings and a hash of its code."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from cliff.checks import ArgumentError


def identity(function: Callable[..., Any], stored: bool) -> dict[str, Any]:
    """Name and settings of a function, as values that JSON holds.

    The settings are the arguments that `functools.partial` binds and the attribute ``parameters``.
    Where JSON cannot hold them, this raises an `ArgumentError`; so it does if the identity is to be
    `stored` in a file, and name and settings do not identify the function or a bound argument.
    """
    described = _describe(function, stored)
    try:
        text = json.dumps(described, sort_keys=True, default=lambda value: _plain(value, stored))
    except TypeError as error:
        requirement = f"has parameters that JSON cannot hold: {error}"
        raise ArgumentError("function", function, requirement) from error
    return dict(json.loads(text))


def _describe(function: Callable[..., Any], stored: bool) -> dict[str, Any]:
    settings = dict(getattr(function, "parameters", {}))
    if isinstance(function, partial):
        bound = {"args": function.args, "keywords": function.keywords}
        settings |= {"partial": _describe(function.func, stored), **bound}
    elif stored and not hasattr(function, "parameters") and not _is_named(function):
        raise ArgumentError(
            "function",
            function,
            "has no name in a module: give it an attribute parameters that identifies it",
        )
    kind = function if hasattr(function, "__qualname__") else type(function)
    return {"function": f"{kind.__module__}.{kind.__qualname__}", "settings": settings}


def _is_named(function: Callable[..., Any]) -> bool:
    """Whether the function is what its module has under its name."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    return found is function


def _plain(value: Any, stored: bool) -> Any:
    """A setting that JSON does not know, as one that it does."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if callable(value):
        return _describe(value, stored)
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    text = repr(value)
    if stored and (" at 0x" in text or "..." in text):
        raise ArgumentError(
            "function", text, "is bound to it, and has no text that identifies it in a file"
        )
    return {"repr": text}


def code_version(function: Callable[..., Any]) -> str:
    """Python's version and a hash of a function's code: another text once the function is edited.

    The hash covers the bytecode, constants and argument names of the function, its defaults, its
    decorators, and whatever it names in its own module or class: functions,
    classes with their constants, partials, and global or enclosed constants (numbers, text, tuples,
    arrays). It leaves out docstrings, comments, other modules, mutable data, and instances of
    classes, such as a Fraction, a member of an Enum, a dataclass or a `numpy.vectorize`. Functions
    without Python code have the version ''.
    """
    while isinstance(function, partial):
        function = function.func
    scope = None
    if isinstance(function, MethodType):
        scope = type(function.__self__)
    elif not hasattr(function, "__qualname__"):
        scope, function = type(function), type(function).__call__
    content = _Content(getattr(function, "__module__", None), scope).of(function)
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return f"{sys.version_info.major}.{sys.version_info.minor}-{digest}" if content else ""


class _Content:
    """Text that changes with what a function does, following names within one module and class."""

    def __init__(self, module: str | None, scope: type | None) -> None:
        self.module, self.scope = module, scope
        self.seen: set[int] = set()

    def of(self, value: Any) -> str:
        if isinstance(value, bool | int | float | complex | str | bytes | None):
            return repr(value)
        if isinstance(value, tuple):
            return f"({','.join(self.of(entry) for entry in value)})"
        if isinstance(value, frozenset):
            return f"{{{','.join(sorted(self.of(entry) for entry in value))}}}"
        if isinstance(value, CodeType):
            named = value.co_varnames[: value.co_argcount + value.co_kwonlyargcount]
            counts = value.co_argcount, value.co_posonlyargcount, value.co_flags
            names = repr((value.co_names, named, counts))
            return value.co_code.hex() + names + self.of(value.co_consts)
        if isinstance(value, np.ndarray | np.generic):
            data = hashlib.sha256(value.tobytes()).hexdigest()
            return f"{value.dtype}{value.shape}{data}"
        if isinstance(value, partial):
            bound = value.args, tuple(sorted(value.keywords.items()))
            return self.of(value.func) + self.of(bound)
        for behind in ("__func__", "fget", "py_func"):  # methods, numba
            value = getattr(value, behind, value)
        own, wrapped = self._followed(value), getattr(value, "__wrapped__", None)
        return own if wrapped is None else own + self.of(wrapped)  # decorators, caches

    def _followed(self, value: Any) -> str:
        """Content of a function or class, if it is of the module and has not been met."""
        if getattr(value, "__module__", None) != self.module or id(value) in self.seen:
            return getattr(value, "__qualname__", "")
        self.seen.add(id(value))
        if isinstance(value, type):
            with_code = FunctionType | staticmethod | classmethod | property
            return value.__qualname__ + "".join(
                f"{name}={self.of(part)};"
                for name, part in vars(value).items()
                if isinstance(part, with_code) or not name.startswith("__")
            )
        return self._of_function(value) if isinstance(value, FunctionType) else ""

    def _of_function(self, function: FunctionType) -> str:
        code = function.__code__
        if function.__doc__ is not None and code.co_consts[:1] == (function.__doc__,):
            code = code.replace(co_consts=(None, *code.co_consts[1:]))
        defaults = function.__defaults__, tuple(sorted((function.__kwdefaults__ or {}).items()))
        enclosed = zip(code.co_freevars, function.__closure__ or (), strict=True)
        content = self.of(code) + self.of(defaults)
        content += "".join(f"{name}={self._enclosed(cell)};" for name, cell in enclosed)
        names = sorted(_names(code))
        return content + "".join(f"{name}={self._named(function, name)};" for name in names)

    def _enclosed(self, cell: CellType) -> str:
        try:
            return self.of(cell.cell_contents)
        except ValueError:  # a name that is still to be assigned
            return ""

    def _named(self, function: FunctionType, name: str) -> str:
        """Content of what a function names in its class or module."""
        if name.startswith("__"):
            return ""
        in_class = inspect.getattr_static(self.scope, name, None) if self.scope else None
        return self.of(in_class) + self.of(function.__globals__.get(name))


def _names(code: CodeType) -> set[str]:
    """Names of globals and attributes in a code and the codes within it."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)
