"""The newcomer's path of the README runs as it stands there: learn, check, run, and look."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py

from sparse_actors.config import EdsTable, parse_config
from sparse_actors.recording.run_record import RunRecord

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")


def example() -> tuple[str, list[list[str]]]:
    found = re.search(r"```toml\n# map\.toml\n(.*?)```\n(.*?)\n## ", README, re.DOTALL)
    assert found
    commands = re.findall(r"^    sparse-actors (.*?)\s*#", found[2], re.MULTILINE)
    return found[1], [shlex.split(command) for command in commands]


def test_a_newcomer_gets_a_map(tmp_path: Path) -> None:
    text, commands = example()
    assert [command[0] for command in commands] == ["learn", "check", "run"]
    (tmp_path / "map.toml").write_text(text, encoding="utf-8")
    for command in commands:
        result = subprocess.run(
            [sys.executable, "-m", "sparse_actors", *command, "--set", "microscope.options.time_scale=20"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr
    assert "Map completed" in result.stderr
    assert "614, 15.0% of the grid" in result.stderr
    record = RunRecord.open(tmp_path / "map")
    assert record.maps.spots_recorded == 614
    with h5py.File(tmp_path / "map" / "run.nxs") as file:
        (field,) = [name for name in file["entry/maps"] if name.startswith("r")]
        names = file["entry/maps/phases"].asstr()[()].tolist()
        shown = file[f"entry/maps/{field}/phase_map"][()]
    assert shown.shape == (64, 64)
    assert set(names) >= {"Fe", "Fe-Cr"}
    assert 1 <= shown.min() <= shown.max() <= len(names)


def test_the_example_is_a_configuration_and_the_guide_has_every_key() -> None:
    assert parse_config(example()[0]).eds is not None
    keys = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", GUIDE, re.MULTILINE)))
    assert set(EdsTable.model_fields) <= set(keys)
