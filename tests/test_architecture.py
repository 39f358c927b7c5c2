"""Imports point one way (CONTRIBUTING.md has the picture)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sparse_actors"

BASE = {"geometry", "imaging", "errors", "version", "scan"}
MAY_IMPORT = {
    "geometry": set(),
    "imaging": set(),
    "errors": set(),
    "version": set(),
    "contracts": BASE,
    "scan": {"geometry", "imaging"},
    "message": set(),
    "map_messages": BASE | {"contracts", "message"},
    "inspection_messages": BASE | {"contracts", "message"},
    "order_messages": BASE | {"message"},
    "storage_messages": BASE | {"message"},
    "worker_messages": {"message"},
    "messages": BASE
    | {"contracts", "message", "map_messages", "order_messages", "storage_messages", "worker_messages"}
    | {"inspection_messages"},
    "packing": {"errors"},
    "wire": BASE | {"contracts", "messages", "packing"},
    "detection": BASE | {"contracts"},
    "dose": BASE,
    "planning": BASE | {"contracts", "messages", "dose"},
    "sampling": BASE | {"contracts"},
    "mapping": BASE | {"contracts", "messages", "sampling"},
    "actors": BASE | {"contracts", "messages", "planning", "sampling", "mapping"},
    "runtime": BASE | {"messages"},
    "map_files": set(),
    "dask_client": {"errors"},
    "network": BASE | {"contracts", "messages", "wire", "packing", "plugins", "map_files", "dask_client"},
    "recording": BASE | {"contracts", "messages", "wire", "dose"},
    "results": BASE | {"contracts", "messages", "recording"},
    "napari_plugin": BASE | {"recording", "results"},
    "export": BASE | {"contracts", "messages", "recording", "results"},
    "plugins": BASE | {"contracts", "config_report", "toml_text"},
    "evaluation": BASE
    | {"contracts", "messages", "detection", "planning", "recording", "config", "plugins", "toml_text"}
    | {"dask_client"},
    "report": BASE
    | {
        "contracts",
        "messages",
        "planning",
        "recording",
        "evaluation",
        "config",
        "plugins",
        "toml_text",
        "cli",
    },
    "testing": BASE | {"contracts", "messages", "runtime"},
}
"""Parts not listed (config, app, cli) may import any."""

ONLY_IN = {
    "pykka": {"runtime"},
    "zmq": {"network"},
    "msgpack": {"wire"},
    "h5py": {"recording"},
    "distributed": {"dask_client"},
    "onnxruntime": {"detection"},
    "zstandard": {"packing"},
    "jinja2": {"report"},
    "starlette": {"page"},
    "uvicorn": {"page"},
    "torch": set(),
}
OUTSIDE = [file for folder in ("drivers", "models") for file in sorted((ROOT / folder).rglob("*.py"))]
OUTSIDE_MAY_IMPORT = BASE | {"contracts"}


def imports(file: Path) -> set[str]:
    """Absolute names of all that a file imports, relative ones resolved."""
    package = ["sparse_actors", *file.relative_to(PACKAGE).parts[:-1]] if PACKAGE in file.parents else []
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                stem = node.module or ""
            else:
                stem = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).strip(".")
            if stem == "sparse_actors":
                names |= {f"sparse_actors.{alias.name}" for alias in node.names}
            elif stem:
                names.add(stem)
    return names


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    part = part_of(file)
    for name in imports(file):
        top, _, rest = name.partition(".")
        assert top not in {"drivers", "models"}, f"{file} imports {name}"
        assert not name.startswith(("sparse_actors.drivers", "sparse_actors.models")), (
            f"{file} imports {name}"
        )
        if top in ONLY_IN:
            assert part in ONLY_IN[top], f"only {ONLY_IN[top]} imports {top}"
        if top == "sparse_actors" and part in MAY_IMPORT:
            other = rest.split(".")[0]
            allowed = MAY_IMPORT[part] | ({part} if part != "actors" else set())
            assert other in allowed, f"{part} must not import {other}"


@pytest.mark.parametrize("file", OUTSIDE, ids=lambda file: str(file.relative_to(ROOT)))
def test_drivers_and_models_import_the_contract_and_no_more(file: Path) -> None:
    for name in imports(file):
        top, _, rest = name.partition(".")
        if top == "sparse_actors":
            assert rest.split(".")[0] in OUTSIDE_MAY_IMPORT, f"{file} imports {name}"


def test_the_rules_can_be_broken(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("import zmq\nfrom sparse_actors.app import run_survey\nfrom sparse_actors import app\n")
    assert imports(file) == {"zmq", "sparse_actors.app"}


def test_files_stay_readable() -> None:
    files = [*FILES, *OUTSIDE, *(ROOT / "tests").glob("*.py")]
    long = [str(file.relative_to(ROOT)) for file in files if len(file.read_text("utf-8").splitlines()) > 500]
    assert not long


def test_nothing_happens_at_import_time() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in FILES
        if file.name != "__main__.py"
    ]
    code = (
        "import importlib, logging, sys, threading\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert not logging.getLogger().handlers\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
