"""Pages of one file: templates filled in, and a policy by which a browser loads nothing else.

Whatever comes from a run is escaped by the template engine. Scripts and styles are named to the browser by
their hashes (Content Security Policy, https://www.w3.org/TR/CSP3), so that no text that got into a page runs.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sparse_actors.recording import disk
from sparse_actors.version import VERSION

STYLE = "page.css"


def write_page(path: Path, template: str, scripts: tuple[str, ...], **content: Any) -> None:
    """Fill in a template and write the page; it appears whole or not at all.

    Parameters
    ----------
    path
        Of the page.
    template, scripts
        Files of the folder `templates`.
    content
        What the template names.

    Raises
    ------
    OSError
        The disk refused.
    """
    style, script = _asset(STYLE), "\n".join(map(_asset, scripts))
    text = (
        _environment()
        .get_template(template)
        .render(
            style=Markup(style),  # noqa: S704  our own files
            script=Markup(script),  # noqa: S704
            style_hash=_hash(style),
            script_hash=_hash(script),
            program=f"sparse-actors {VERSION}",
            **content,
        )
    )
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    disk.publish(temporary, path)


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("sparse_actors.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
