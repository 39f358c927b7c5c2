from __future__ import annotations

import pytest

from sparse_actors.errors import ConfigError
from sparse_actors.evaluation.grid import configurations
from sparse_actors.imaging import Imaging

FAST = [Imaging((768, 768), 32_000.0)]


def test_the_56_configurations_of_the_paper() -> None:
    found = configurations(
        FAST,
        [
            "detect.options.threshold=45:60:5",
            "detect.options.eps_px,detect.options.min_points=1/4,1/5,2/10,2/13,3/15,3/20,3/25",
            "detect.options.interpolation=bicubic,lanczos",
        ],
    )
    assert len(found) == 56
    assert len({configuration.name for configuration in found}) == 56
    assert found[0].overrides == [
        "detect.options.threshold=45",
        "detect.options.eps_px=1",
        "detect.options.min_points=4",
        'detect.options.interpolation="bicubic"',
    ]


def test_ranges_hold_their_end_and_lists_of_lists_stay_whole() -> None:
    found = configurations(
        FAST, ["detect.options.threshold=0.1:0.3:0.1", "regions.size_px=[64,64],[128,128]"]
    )
    assert [dict(c.options)["detect.options.threshold"] for c in found] == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert dict(found[1].options)["regions.size_px"] == [128, 128]


def test_a_random_part_is_a_part_in_the_same_order_and_repeats() -> None:
    grid = ["detect.options.threshold=0:99:1"]
    every = configurations(FAST, grid)
    some = configurations(FAST, grid, count=20, seed=3)
    assert len(some) == 20
    assert some == [c for c in every if c in some]
    assert some == configurations(FAST, grid, count=20, seed=3)
    assert some != configurations(FAST, grid, count=20, seed=4)


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ("threshold=1,2", "is not swept"),
        ("detect.options.threshold", "expected KEY=VALUES"),
        ("detect.options.threshold=5:1:1", "first <= last"),
        ("detect.options.threshold=1:x:1", "no range of numbers"),
        ("detect.options.threshold=1,1", "comes twice"),
        ("detect.options.threshold=1,,2", "a value is missing"),
        ("detect.options.eps_px,detect.options.min_points=1/4,2", "1 values for 2 keys"),
    ],
)
def test_what_cannot_be_read_is_named(grid: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        configurations(FAST, [grid])


def test_a_key_of_two_axes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"detect\.options\.threshold: comes twice"):
        configurations(FAST, ["detect.options.threshold=1", "detect.options.threshold=2"])
