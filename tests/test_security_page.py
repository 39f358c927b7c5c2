"""What docs/security.md claims has a test, and nothing that comes in can become code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
FILES = [
    file
    for folder in ("sparse_actors", "drivers", "models")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
UNPICKLING = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
EVALUATING = {"eval", "exec", "compile", "__import__"}


def test_every_claim_names_a_test_that_there_is() -> None:
    rows = re.search(r"## Claims.*?(?=\n## )", PAGE, re.DOTALL)
    assert rows
    claims = [line for line in rows[0].splitlines() if line.startswith("| ") and "claim | test" not in line]
    assert len(claims) > 15
    for claim in claims:
        named = re.findall(r"`tests/(\w+\.py)::(\w+)`", claim)
        assert named, claim
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text("utf-8"), claim


def dangers(source: str) -> list[str]:
    """Return what in a source could turn data into code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [one.name for one in names if one.name.split(".")[0] in UNPICKLING]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in UNPICKLING:
                found.append(module)
            case ast.Call(func=ast.Name(id=name)) if name in EVALUATING:
                found.append(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr=name)) if name in (
                "system",
                "popen",
            ):
                found.append(f"os.{name}")
            case ast.keyword(arg="shell" | "allow_pickle" as name, value=ast.Constant(value=True)):
                found.append(name)
    return found


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from marshal import loads", "eval(text)", "os.system(text)", "run(text, shell=True)",
     "np.load(file, allow_pickle=True)"],
)  # fmt: skip
def test_dangers_are_seen(source: str) -> None:
    assert len(dangers(source)) == 1


def test_nothing_of_ours_unpickles_evaluates_or_asks_a_shell() -> None:
    found = {str(file.relative_to(ROOT)): dangers(file.read_text("utf-8")) for file in FILES}
    assert len(found) > 200
    assert {file: names for file, names in found.items() if names} == {}
