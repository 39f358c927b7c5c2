"""Plugins: found by name or "module:Class", options checked against the signature."""

import sys
from pathlib import Path

import pytest

from sparse_actors import plugins
from sparse_actors.errors import CapabilityError, ConfigError, PluginError

PLUGINS = """
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from sparse_actors.contracts.microscope import Microscope
from sparse_actors.errors import CapabilityError

if TYPE_CHECKING:
    from nowhere import Something

@dataclass(frozen=True)
class Faults:
    stall_at: int = 0

class Detector:
    def detect(self, image, scale):
        return []

class Finder(Detector):
    def __init__(self, threshold: int, eps_px: float = 1.0, *,
                 upscale: Literal["bicubic", "lanczos"] = "bicubic", folder: Path | None = None,
                 window_px: tuple[int, int] = (1, 1), faults: Faults = Faults()):
        if threshold > 255:
            raise ValueError("threshold must be at most 255")
        self.options = (threshold, eps_px, upscale, folder, window_px, faults)

class Open(Detector):
    def __init__(self, **options):
        self.options = options

class Unreadable(Detector):
    def __init__(self, size: Something = None):
        self.size = size

class Odd(Detector):
    def __init__(self, model_config: int = 0, schema: str = "", copy: bool = False):
        self.options = (model_config, schema, copy)

class Breaks(Detector):
    def __init__(self):
        raise RuntimeError("no licence")

class Unable(Detector):
    def __init__(self):
        raise CapabilityError("no sub-regions")

class Blind:
    pass

class Half(Microscope):
    def connect(self):
        pass

not_a_class = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's own, in the current directory; gives its name."""
    name = f"own_{abs(hash(tmp_path)):x}"
    (tmp_path / f"{name}.py").write_text(PLUGINS)
    (tmp_path / f"{name}_broken.py").write_text("import a_library_nobody_has")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    for module in (name, f"{name}_broken"):
        sys.modules.pop(module, None)


def test_installed_plugins_are_listed_with_their_origin():
    found = plugins.available("microscope")
    assert set(found) >= {"simulated", "replay"}
    assert found["simulated"].startswith(
        "sparse_actors.drivers.simulated:SimulatedMicroscope (sparse-actors "
    )
    assert "threshold_dbscan" in plugins.available("detector")


def test_a_class_in_the_current_directory_is_built_with_converted_options(own):
    options = {"threshold": 55, "eps_px": 2, "folder": "x/y", "window_px": [3, 4], "faults": {"stall_at": 7}}
    assert plugins.check("detector", f"{own}:Finder", options) == []
    threshold, eps_px, upscale, folder, window_px, faults = plugins.build(
        "detector", f"{own}:Finder", options
    ).options
    assert (threshold, eps_px, upscale) == (55, 2.0, "bicubic")
    assert (folder, window_px, faults.stall_at) == (Path("x/y"), (3, 4), 7)


def test_every_wrong_option_is_reported_at_once(own):
    options = {
        "treshold": 55,
        "eps_px": "1",
        "upscale": "bicubik",
        "window_px": [3],
        "faults": {"stal_at": 1},
    }
    with pytest.raises(ConfigError) as caught:
        plugins.build("detector", f"{own}:Finder", options)
    problems = caught.value.problems
    assert list(problems) == plugins.check("detector", f"{own}:Finder", options)
    assert sorted(p.split(":")[0] for p in problems) == [
        'detect.options.eps_px = "1"',
        "detect.options.faults.stal_at = 1",
        "detect.options.treshold = 55",
        'detect.options.upscale = "bicubik"',
        "detect.options.window_px = [3]",
    ]
    text = "\n".join(problems)
    assert "did you mean detect.options.threshold?" in text
    assert 'eps_px = "1": expected a number' in text
    assert "did you mean 'bicubic'?" in text


@pytest.mark.parametrize("value", ["55", 55.5, True, [55], float("nan")])
def test_types_are_not_converted(own, value):
    assert len(plugins.check("detector", f"{own}:Finder", {"threshold": value})) == 1


def test_a_required_option_is_missed(own):
    assert plugins.check("detector", f"{own}:Finder", {}) == ["detect.options.threshold is missing"]


def test_a_value_the_class_refuses_is_a_configuration_error(own):
    with pytest.raises(ConfigError, match=r"detect.options: .*Finder says: threshold must be at most 255"):
        plugins.build("detector", f"{own}:Finder", {"threshold": 256})


def test_a_class_that_takes_any_option_gets_any(own):
    assert plugins.build("detector", f"{own}:Open", {"anything": [1, 2]}).options == {"anything": [1, 2]}


def test_options_may_have_any_name(own):
    options = {"model_config": 1, "schema": "a", "copy": True}
    assert plugins.build("detector", f"{own}:Odd", options).options == (1, "a", True)


def test_annotations_for_the_type_checker_only_are_not_checked(own):
    assert plugins.build("detector", f"{own}:Unreadable", {"size": 3}).size == 3
    assert plugins.check("detector", f"{own}:Unreadable", {"sise": 3}) != []


def test_failures_of_the_class_are_plain(own):
    with pytest.raises(PluginError, match=r"does not start: RuntimeError: no licence"):
        plugins.build("detector", f"{own}:Breaks", {})
    with pytest.raises(CapabilityError, match=r"^no sub-regions$"):
        plugins.build("detector", f"{own}:Unable", {})


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("microscope", "simulatd", r"did you mean 'simulated'\? installed are .*replay, .*simulated"),
        ("microscope", "own:", "there is no microscope 'own:'"),
        ("detector", "{own}_broken:Any", "ModuleNotFoundError: No module named 'a_library_nobody_has'"),
        ("detector", "{own}:Missing", r"AttributeError.*Missing"),
        ("detector", "{own}:Blind", "needs a method detect"),
        ("detector", "{own}:not_a_class", "is not a class but int"),
        ("microscope", "{own}:Finder", "no subclass of sparse_actors.contracts.microscope.Microscope"),
        ("microscope", "{own}:Half", r"lacks the methods disconnect, get_state, move_stage"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_says_why(own, kind, name, expected):
    name = name.format(own=own)
    with pytest.raises(PluginError, match=expected):
        plugins.load(kind, name)
    key = "microscope.driver" if kind == "microscope" else "detect.detector"
    assert [p.split(" = ")[0] for p in plugins.check(kind, name, {})] == [key]
