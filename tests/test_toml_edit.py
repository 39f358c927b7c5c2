from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sparse_actors.errors import ConfigError
from sparse_actors.toml_edit import with_values

TEXT = """# of the night of the 12th
[scan.fast]
size_px = [768, 768] # coarse
dwell_ns = 3200.0

[detect]
detector = "threshold_dbscan"
options = { threshold = 55.0, eps_px = 1.0 } # "dark" # ones
[regions] # around finds
size_px = [
    100, # wide
    100,
]
"""


def test_comments_and_order_stay() -> None:
    after = with_values(
        TEXT,
        {
            ("scan", "fast", "size_px"): [1536, 1536],
            ("detect", "options", "threshold"): 61,
            ("detect", "options", "interpolation"): "lanczos",
            ("regions", "placement"): "free",
            ("regions", "size_px"): [64, 64],
            ("limits", "scan_attempts"): 2,
        },
    )
    assert (
        after
        == """# of the night of the 12th
[scan.fast]
size_px = [1536, 1536] # coarse
dwell_ns = 3200.0

[detect]
detector = "threshold_dbscan"
options = {threshold = 61, eps_px = 1.0, interpolation = "lanczos"} # "dark" # ones
[regions] # around finds
placement = "free"
size_px = [64, 64]

[limits]
scan_attempts = 2
"""
    )


@given(st.text(max_size=20), st.one_of(st.integers(-9, 9), st.booleans(), st.text(max_size=9)))
@example("\u2028", "\x85")
def test_whatever_is_put_in_is_read_back(other: str, value: object) -> None:
    import json

    comment = "".join(letter for letter in other if letter.isprintable())
    text = f"[a.b]\nx = {json.dumps('# ' + 'q')} # {comment}\n"
    after = with_values(text, {("a", "b", "x"): value, ("a", "c"): value})
    assert tomllib.loads(after) == {"a": {"b": {"x": value}, "c": value}}
    assert f"# {comment}" in after


def test_a_file_that_cannot_be_changed_is_refused() -> None:
    with pytest.raises(ConfigError, match="by hand"):
        with_values("[a]\nx = '''\n[b]\ny = 1\n'''\n[[c]]\nz = 1\n", {("c", "z"): 2})
    with pytest.raises(ConfigError, match="not TOML"):
        with_values("[a\n", {("a", "x"): 1})
