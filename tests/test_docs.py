"""Nobody must guess what there is: the README names every command and page, config.toml every table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sparse_actors.cli.commands import app
from sparse_actors.config import Config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def commands(command: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, below in command.commands.items():
        if hasattr(below, "commands"):
            yield from commands(below, f"{above}{name} ")
        else:
            yield above + name, below


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_every_command_stands_in_the_table_of_the_readme() -> None:
    table = README.split("## All commands")[1].split("Exit codes")[0]
    assert set(re.findall(r"`([a-z ]+)`", table)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_shows_all_of_its_words(name: str) -> None:
    # Words in square brackets would be taken for a style of the text, and not be shown.
    texts = [COMMANDS[name].help, *(getattr(option, "help", "") for option in COMMANDS[name].params)]
    assert not [text for text in texts if re.search(r"\[[a-z]+\]", text or "")]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_linked_from_the_readme(page: str) -> None:
    assert f"(docs/{page})" in README


@pytest.mark.parametrize("table", Config.model_fields)
def test_every_table_is_shown_in_the_configuration(table: str) -> None:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    assert re.search(rf"^(# )?\[{table}(\.\w+)?\]", text, re.MULTILINE)
