"""Write docs/configuration.md and docs/commands.md from the program itself.

    python scripts/make_reference.py

A test fails while they are not what this writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from sparse_actors.cli.commands import app
from sparse_actors.config import Config
from sparse_actors.toml_text import toml_value

DOCUMENTS = Path(__file__).parent.parent / "docs"
MADE = "Made from the program by `python scripts/make_reference.py`; do not edit."
LIMITS = {"minimum": ">= {}", "exclusiveMinimum": "> {}", "maximum": "<= {}", "exclusiveMaximum": "< {}"}

CONFIGURATION = """# Configuration

Every table and key of the configuration file, in TOML. Keys carry their unit; unknown keys are errors.
`sparse-actors check CONFIG` names everything that is wrong at once, `config show --origin` says where each
value comes from, and `config schema` prints this as JSON Schema, for editors. On the command line
`--set scan.fast.dwell_ns=300` overrides a key; in the environment `SPARSE_ACTORS__SCAN__FAST__DWELL_NS=300`.
[config.toml](../config.toml) shows all of it with comments.
"""
COMMANDS = """# Commands

`sparse-actors COMMAND --help` prints the same in the terminal. Data goes to stdout and words to stderr; exit
codes are in the [README](../README.md#all-commands).
"""


def configuration() -> str:
    """Return the page of every key of the configuration."""
    schema = Config.model_json_schema()
    return "\n".join([CONFIGURATION, *_tables(schema, schema["$defs"], ""), MADE, ""])


def _tables(table: dict[str, Any], known: dict[str, Any], name: str) -> Iterator[str]:
    """Yield the lines of a table, then those of the tables in it."""
    keys, below = [], []
    required = set(table.get("required", ()))
    for key, given in table["properties"].items():
        inner = _table_of(given, known)
        if inner is None:
            keys.append((key, given, key in required))
        else:
            below.append((f"{name}.{key}" if name else key, inner, given))
    if keys:
        yield from ("| key | value | default | |", "|---|---|---|---|")
        for key, given, is_required in keys:
            default = "required" if is_required else _default(given)
            cells = (f"`{key}`", _values(given, known), default, _sentence(given.get("description", "")))
            yield f"| {' | '.join(map(_cell, cells))} |"
        yield ""
    for path, inner, given in below:
        about = given.get("description") or inner.get("description") or ""
        yield from (f"## `[{path}]`", "", _sentence(about), "")
        yield from _tables(inner, known, path)


def _table_of(given: dict[str, Any], known: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a value holds if it is a table with keys of its own."""
    for choice in (given, *given.get("anyOf", ())):
        target = known.get(choice.get("$ref", "").rpartition("/")[2])
        if target and "properties" in target:
            return target
    return None


def _values(given: dict[str, Any], known: dict[str, Any]) -> str:
    """Return in words what may stand there."""
    if choices := given.get("anyOf"):
        return " or ".join(_values(choice, known) for choice in choices if choice.get("type") != "null")
    if reference := given.get("$ref"):
        return _values(known[reference.rpartition("/")[2]], known)
    if values := given.get("enum") or ([given["const"]] if "const" in given else None):
        return ", ".join(f"`{toml_value(value)}`" for value in values)
    kind = given.get("type", "any value")
    if kind == "array":
        parts = given.get("prefixItems")
        if parts:
            words = [_values(part, known) for part in parts]
            return f"[{', '.join(words)}]" if len(set(words)) > 1 else f"{len(words)} x ({words[0]})"
        return f"list of {_values(given.get('items', {}), known)}"
    word = {"string": "text", "integer": "whole number", "boolean": "`true` or `false`", "object": "table"}
    limits = [form.format(f"{given[key]:g}") for key, form in LIMITS.items() if key in given]
    return " ".join([word.get(kind, kind), ", ".join(limits)]).strip()


def _default(given: dict[str, Any]) -> str:
    value = given.get("default")
    if value is None or value in ("", [], {}):
        return ""
    return f"`{toml_value(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    """Return a docstring in one line, its double backticks single."""
    return re.sub(r"\s+", " ", text).replace("``", "`").strip()


def commands() -> str:
    """Return the page of every command."""
    lines = [COMMANDS]
    root: Any = typer.main.get_command(app)
    for name, command in sorted(_commands(root, "")):
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        usage = " ".join([f"sparse-actors {name}", *(_argument(p) for p in arguments), "[OPTIONS]"])
        lines += [f"## {name}", "", f"    {usage}", "", *_paragraphs(command.help or ""), ""]
        if arguments or options:
            lines += ["| | |", "|---|---|"]
            for parameter in (*arguments, *options):
                is_option = parameter.param_type_name == "option"
                shown = _option(parameter) if is_option else _argument(parameter)
                help_text = _sentence(parameter.help or "")
                lines.append(f"| `{_cell(shown)}` | {_cell(help_text)} |")
            lines.append("")
    return "\n".join([*lines, MADE, ""])


def _commands(command: Any, above: str) -> Iterator[tuple[str, Any]]:
    for name, below in command.commands.items():
        if hasattr(below, "commands"):
            yield from _commands(below, f"{above}{name} ")
        else:
            yield above + name, below


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    name += "..." * (parameter.nargs == -1)
    return name if parameter.required else f"[{name.strip('[]')}]"


def _option(parameter: Any) -> str:
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return ", ".join(parameter.opts) + value


def _paragraphs(text: str) -> list[str]:
    """Return help text with its paragraphs, each in one line."""
    blocks = [_sentence(block) for block in re.split(r"\n\s*\n", text.replace("\b", ""))]
    return "\n\n".join(filter(None, blocks)).split("\n")


PAGES = {"configuration.md": configuration, "commands.md": commands}


if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCUMENTS / page).write_text(make(), encoding="utf-8", newline="\n")
