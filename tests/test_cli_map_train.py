"""`train`: what it makes is what maps read, and what is missing is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from sparse_actors.cli import train
from sparse_actors.cli.commands import app
from sparse_actors.plugins import model_part
from sparse_actors.sampling.erd_model import ErdModel


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rows, columns = np.indices((48, 48))
    path = tmp_path / "labels.png"
    path.write_bytes(cv2.imencode(".png", (1 + (rows + columns) // 12 % 2).astype(np.uint8))[1].tobytes())
    return path


def test_a_sampler_is_trained_and_read_back(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "sampler.json"
    result = invoke("sampler", image, "--out", out, "--seed", 5, "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert (printed["schema"], printed["images"], printed["seed"]) == (1, 1, 5)
    assert "seed 5" in ErdModel.from_json(out.read_text("utf-8")).trained_on
    assert 'sampler = "' in result.stderr
    again = invoke("sampler", image, "--out", out)
    assert (again.exit_code, "--force replaces it" in again.stderr) == (3, True)


def test_what_is_no_label_image_is_named(image: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(cv2.imencode(".png", np.ones((8, 8), np.uint8))[1].tobytes())
    result = invoke("sampler", image, bad, "--out", tmp_path / "s.json")
    assert result.exit_code == 3
    assert "bad.png: needs at least two phases" in " ".join(result.stderr.split())
    assert invoke("sampler", tmp_path / "none.png", "--out", tmp_path / "s.json").exit_code == 5
    assert not (tmp_path / "s.json").exists()


def test_networks_are_trained_on_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_spectra(library: Path, out: Path, *, seed: int, on_epoch: Any) -> dict[str, Any]:
        on_epoch(1, 0.5)
        return {"phases": ["a", "b"], "calibration": {"error": 0.01}, "seed": seed, "library": str(library)}

    monkeypatch.setattr(train, "model_part", lambda name: train_spectra)
    result = invoke("spectra", tmp_path / "l.npz", "--out", tmp_path / "net", "--seed", 2, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["card"]["seed"] == 2
    assert "epoch 1: cross-entropy 0.500 nats" in result.stderr
    assert "2 phases, 1.00% of thinned spectra" in result.stderr


def test_without_pytorch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(model_part(train.TRAINING))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = invoke("spectra", tmp_path / "l.npz", "--out", tmp_path / "net")
    assert result.exit_code == 1
    assert "pip install 'sparse-actors[train]'" in result.stderr
