"""Finding drivers, detectors and classifiers by name: the only way they come into the program.

A plugin is named by its entry point (groups in `GROUPS`) or as "module:Class"; a microscope also by the
address of the process that hosts it. Its options are the keyword arguments of the class; their names and
types are checked before anything is built.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError, create_model

from .config_report import describe
from .contracts.microscope import Microscope
from .contracts.spectrum_source import SpectrumSource
from .errors import ConfigError, PluginError, SparseActorsError
from .toml_text import Key, dotted, toml_value

Kind = Literal["microscope", "detector", "classifier", "spectrum source"]

GROUPS: dict[Kind, str] = {
    "microscope": "sparse_actors.microscopes",
    "detector": "sparse_actors.detectors",
    "classifier": "sparse_actors.classifiers",
    "spectrum source": "sparse_actors.spectrum_sources",
}
NAME_KEY: dict[Kind, Key] = {
    "microscope": ("microscope", "driver"),
    "detector": ("detect", "detector"),
    "classifier": ("eds", "classifier"),
    "spectrum source": ("microscope", "options", "spectra", "driver"),
}
OPTIONS_KEY: dict[Kind, Key] = {
    "microscope": ("microscope", "options"),
    "detector": ("detect", "options"),
    "classifier": ("eds", "options"),
    "spectrum source": ("microscope", "options", "spectra", "options"),
}


ELEMENTS = "sparse_actors.models.element_matching:match_elements"
"""What tells the elements of a spectrum."""


HOSTED, ADDRESSES = "hosted", ("ipc://", "tcp://")
"""The driver of microscopes in other processes, and how the name of a driver begins that is an address."""


def by_address(name: str, options: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return name and options of a driver; an address stands for `hosted` there."""
    if name.startswith(ADDRESSES):
        return HOSTED, {**options, "address": name}
    return name, options


def available(kind: Kind) -> dict[str, str]:
    """Return the installed plugins: name and origin, "module:Class (distribution version)"."""
    return {
        point.name: f"{point.value} ({point.dist.name} {point.dist.version})" if point.dist else point.value
        for point in sorted(importlib.metadata.entry_points(group=GROUPS[kind]))
    }


def load(kind: Kind, name: str) -> type[Any]:
    """Return the class of a plugin.

    A "module:Class" is looked for in the current directory too, after everything installed.

    Raises
    ------
    PluginError
        No such plugin, it cannot be imported, or it is not what its kind must be.
    """
    if kind == "microscope":
        name, _ = by_address(name, {})
    installed = {point.name: point.value for point in importlib.metadata.entry_points(group=GROUPS[kind])}
    target = installed.get(name, name)
    module_name, _, class_name = target.partition(":")
    if not (module_name and class_name):
        close = difflib.get_close_matches(name, installed, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise PluginError(f"there is no {kind} {name!r}; {meant}{_choice(kind)}")
    if target is name and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part)
    except Exception as error:
        # Whatever a foreign module raises on import, the reader needs its name and the reason.
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(f"the {kind} {name!r} cannot be loaded: {reason}; {_choice(kind)}") from error
    if not isinstance(found, type):
        raise PluginError(f"the {kind} {name!r} is not a class but {type(found).__name__}; {_choice(kind)}")
    if kind == "microscope" and not issubclass(found, Microscope):
        raise PluginError(f"the microscope {name!r} is no subclass of {Microscope.__module__}.Microscope")
    if kind == "spectrum source" and not issubclass(found, SpectrumSource):
        raise PluginError(
            f"the spectrum source {name!r} is no subclass of {SpectrumSource.__module__}.SpectrumSource"
        )
    if kind == "detector" and not callable(getattr(found, "detect", None)):
        raise PluginError(f"the detector {name!r} needs a method detect(image, scale)")
    if kind == "classifier" and not callable(getattr(found, "classify", None)):
        raise PluginError(f"the classifier {name!r} needs a method classify(counts, live_time_s, axis)")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise PluginError(f"the {kind} {name!r} lacks the methods {missing}")
    return found


def check(kind: Kind, name: str, options: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with a plugin's name and options, without building it."""
    try:
        plugin = load(kind, name)
        _checked(plugin, kind, by_address(name, options)[1])
    except PluginError as error:
        return [f"{dotted(NAME_KEY[kind])} = {toml_value(name)}: {error}"]
    except ConfigError as error:
        return list(error.problems)
    # A driver that is made of others knows what is wrong with theirs.
    further: Callable[[Mapping[str, Any]], list[str]] | None = getattr(plugin, "problems", None)
    return further(options) if further else []


def build(kind: Kind, name: str, options: Mapping[str, Any]) -> Any:
    """Load a plugin and call it with its options.

    Raises
    ------
    ConfigError
        Unknown, missing or ill-typed options, all at once; or the class refused their values.
    PluginError
        The class cannot be loaded or failed otherwise.
    """
    plugin = load(kind, name)
    arguments = _checked(plugin, kind, by_address(name, options)[1])
    try:
        return plugin(**arguments)
    except SparseActorsError:
        raise
    except ValueError as error:
        raise ConfigError(f"{dotted(OPTIONS_KEY[kind])}: {name} says: {error}") from error
    except Exception as error:
        raise PluginError(f"the {kind} {name!r} does not start: {type(error).__name__}: {error}") from error


def model_part(name: str) -> Any:
    """Return what a "module:name" of the models stands for; they are no imports of the program.

    Raises
    ------
    ConfigError
        A package that it needs is not installed.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{module} needs the package {error.name}, which is not installed") from None


def _choice(kind: Kind) -> str:
    names = ", ".join(available(kind)) or "none"
    return f'installed are {names}; a class of your own is named "module:Class"'


def _checked(plugin: type[Any], kind: Kind, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options against the signature of the class and return them as it wants them.

    They are checked as JSON, whose types are those of TOML: a list may become a tuple and text a
    path, but text never becomes a number. Options whose annotation cannot be read are not checked.
    """
    parameters = _parameters(plugin)
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    # Fields are numbered, with the option as alias, so that any name of an option is possible.
    fields: dict[str, Any] = {
        f"option_{i}": (
            Any if p.annotation is p.empty else p.annotation,
            Field(default=... if p.default is p.empty else p.default, alias=p.name),
        )
        for i, p in enumerate(named)
    }
    rules = ConfigDict(
        strict=True, extra="allow" if is_open else "forbid", arbitrary_types_allowed=True, allow_inf_nan=False
    )
    model = create_model("Options", __config__=rules, **fields)
    table = OPTIONS_KEY[kind]
    try:
        valid = model.model_validate_json(json.dumps(dict(options), default=str))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        for one in errors:
            one["loc"] = (*table, *one["loc"])
        data: Any = options
        for part in reversed(table):
            data = {part: data}
        known = {(*table, p.name): "" for p in named}
        raise ConfigError(*describe(errors, data, known)[0].values()) from None
    given = {p.name: getattr(valid, f"option_{i}") for i, p in enumerate(named) if p.name in options}
    return given | (valid.model_extra or {})


def _parameters(plugin: type[Any]) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(plugin, eval_str=True)
    except NameError:  # An annotation that exists for the type checker only.
        signature = inspect.signature(plugin)
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        signature = signature.replace(parameters=plain)
    return list(signature.parameters.values())
