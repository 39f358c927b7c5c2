"""What crosses a link: compressed when that is sooner, never more than it says; and whose code it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sparse_actors import wire
from sparse_actors.errors import PluginError, WireError
from sparse_actors.geometry import PartitionId, TileIndex
from sparse_actors.messages import DetectImage
from sparse_actors.network.link_rate import LinkRate
from sparse_actors.network.same_code import code_of, difference, label
from sparse_actors.packing import METHOD, packed, sampled_ratio, unpacked


def order(image: np.ndarray[Any, Any]) -> DetectImage:
    return DetectImage(partition=PartitionId(TileIndex(0, 0), 0), attempt=1, image=image, scale=1)


def noisy(bits: int, shape: tuple[int, int] = (512, 512)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 2**bits, shape).astype(np.uint16)


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(st.sampled_from([np.uint8, np.uint16]), st.tuples(st.integers(0, 40), st.integers(1, 40)))
)
def test_an_image_survives_being_packed(image: np.ndarray[Any, Any]) -> None:
    message = wire.decode(wire.encode(order(image), packed), may_be_packed=True)
    assert isinstance(message, DetectImage)
    np.testing.assert_array_equal(message.image, image)
    assert message.image.dtype == image.dtype
    assert not message.image.flags.writeable


def test_shuffled_bytes_reach_the_entropy_of_noise() -> None:
    assert sampled_ratio(noisy(8)) > 1.95
    assert sampled_ratio(noisy(16)) < 1.01
    assert sampled_ratio(np.zeros((0, 4), np.uint16)) == 1.0


def test_a_packed_array_is_taken_only_where_it_is_expected() -> None:
    frames = wire.encode(order(noisy(8)), packed)
    with pytest.raises(WireError, match="expected \\[dtype, shape\\]"):
        wire.decode(frames)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"no zstd",
        zstandard.ZstdCompressor().compress(bytes(10**7)),
        zstandard.ZstdCompressor().compress(bytes(511)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(512)),
        zstandard.ZstdCompressor().compress(bytes(512))[:-3],
    ],
    ids=["empty", "foreign", "bomb", "short", "of unknown size", "torn"],
)
def test_a_block_that_is_not_what_it_says_is_refused(block: bytes) -> None:
    with pytest.raises(WireError, match="packed array"):
        unpacked(block, np.dtype(np.uint16), (16, 16))
    header, _ = wire.encode(order(np.zeros((16, 16), np.uint16)), lambda array: b"")
    with pytest.raises(WireError):
        wire.decode([header, block], may_be_packed=True)
    assert METHOD.encode() in header


# -- the decision --------------------------------------------------------------------------------------


def link(bytes_per_s: float) -> LinkRate:
    rate = LinkRate()
    rate.sent(10_000_000)
    rate.arrived(10_000_000 / bytes_per_s)
    return rate


def test_a_link_is_fast_until_it_was_measured() -> None:
    rate = LinkRate()
    assert rate.pack(noisy(8)) is None
    rate.sent(1000)
    rate.arrived(5.0)
    assert rate.bytes_per_s.value is None, "a small message tells the delay only"
    rate.arrived(5.0)
    assert rate.bytes_per_s.value is None, "nothing was under way"


@pytest.mark.parametrize(
    ("bytes_per_s", "bits", "is_packed"),
    [(12e6, 8, True), (12e6, 16, False), (12e6, 15, False), (10e9, 8, False), (390e6, 12, False)],
    ids=["100 Mbit/s", "noise of all bits", "too little gain", "faster than the codec", "hardly slower"],
)
def test_what_is_sooner_there_is_sent(bytes_per_s: float, bits: int, is_packed: bool) -> None:
    assert (link(bytes_per_s).pack(noisy(bits)) is not None) is is_packed


# -- the code ------------------------------------------------------------------------------------------


def test_the_code_of_a_detector_is_its_package_and_the_files_it_is_given(tmp_path: Path) -> None:
    code = code_of("detector", "threshold_dbscan", {"threshold": 3})
    assert "sparse_actors.detection: threshold_dbscan.py" in code
    assert "sparse_actors.detection: dbscan.py" in code
    model = tmp_path / "phases.npz"
    model.write_bytes(b"1")
    one = code_of("detector", "odd_detectors:Odd", {"library": str(model)})
    model.write_bytes(b"2")
    two = code_of("detector", "odd_detectors:Odd", {"library": str(model)})
    assert difference(one, two) == f"{model} differs"
    assert label("Odd", one) != label("Odd", two)
    model.unlink()
    assert difference(one, code_of("detector", "odd_detectors:Odd", {"library": str(model)})) == (
        f"{model} is not on the worker"
    )
    assert difference(one, one) == ""
    with pytest.raises(PluginError):
        code_of("detector", "odd_detectors:Missing", {})


def test_the_ends_of_lines_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    for ending in ("\n", "\r\n"):
        source = ending.join(
            ["class Nothing:", "    def detect(self, image, scale):", "        return []", ""]
        )
        (tmp_path / "detector_of_two_systems.py").write_bytes(source.encode())
        found.append(code_of("detector", "detector_of_two_systems:Nothing", {}))
    assert found[0] == found[1] != {}


def test_many_differences_are_counted() -> None:
    daemon = {f"{number}.py": "a" for number in range(9)}
    assert difference(daemon, {}) == (
        "0.py is not on the worker, 1.py is not on the worker, 2.py is not on the worker, and 6 more"
    )
    assert difference({}, {"x.py": "a"}) == "x.py is not on the daemon"
