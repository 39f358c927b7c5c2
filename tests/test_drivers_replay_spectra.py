from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sparse_actors.drivers.instrument_log import log_entries
from sparse_actors.drivers.replay import ReplayMicroscope

from sparse_actors.contracts.microscope import Microscope
from sparse_actors.errors import CapabilityError
from sparse_actors.geometry import full_frame
from sparse_actors.testing.microscope_contract import MicroscopeContract

MAPS = Path(__file__).parents[2] / "shared" / "data" / "eds_maps"
ROWS, COLUMNS, CHANNELS = 100, 120, 64
PIXEL_MM = 1e-3
RECORDED_S = 0.5


@pytest.fixture
def cube() -> np.ndarray:
    """Counts of a field of 120 x 100 pixels; more of them downwards, and one pixel without any."""
    rates = np.linspace(1, 5, ROWS)[:, np.newaxis, np.newaxis] * np.linspace(2, 0, CHANNELS)
    counts = np.random.default_rng(1).poisson(np.broadcast_to(rates, (ROWS, COLUMNS, CHANNELS)))
    counts[5, 7] = 0
    return counts


@pytest.fixture
def recording(cube: np.ndarray, tmp_path: Path) -> Path:
    idx = np.flatnonzero(cube)
    np.savez(
        tmp_path / "map.npz",
        idx=idx.astype(np.int32),
        val=cube.ravel()[idx].astype(np.uint16),
        shape=np.array(cube.shape),
        energy_offset_keV=-0.1,
        energy_scale_keV=0.02,
        pixel_size=PIXEL_MM * 1e3,
        pixel_units="µm",
        image_SE=np.zeros((ROWS, COLUMNS), dtype=np.uint16),
        image_BSE=np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS) * 5,
    )
    return tmp_path / "map.npz"


def ready(recording: Path, **options: object) -> ReplayMicroscope:
    chosen = {"spectrum_image": str(recording), "recorded_live_time_s": RECORDED_S, "time_scale": 0}
    microscope = ReplayMicroscope(**{**chosen, **options})  # type: ignore[arg-type]
    microscope.connect()
    microscope.prepare()
    return microscope


class TestReplayOfSpectra(MicroscopeContract):
    window_px = (48, 32)
    view_field_mm = 48 * 2 * PIXEL_MM
    positions_mm = ((60 * PIXEL_MM, 50 * PIXEL_MM), (55 * PIXEL_MM, 49 * PIXEL_MM))
    stage_tolerance_mm = PIXEL_MM / 2
    live_time_s = RECORDED_S / 2
    long_live_time_s = RECORDED_S

    @pytest.fixture
    def microscope(self, recording: Path, tmp_path: Path) -> Microscope:
        self.log = tmp_path / "log.jsonl"
        return ReplayMicroscope(
            spectrum_image=str(recording),
            recorded_live_time_s=RECORDED_S,
            time_scale=100,
            log_file=str(self.log),
        )

    def exposed_spots(self, microscope: Microscope) -> list[tuple[int, int]]:
        spectra = [entry for entry in log_entries(self.log) if entry["what"] == "spectra"]
        return [(x, y) for entry in spectra for x, y in entry["points_px"]]


def all_points(width: int, height: int) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return np.column_stack([columns.ravel(), rows.ravel()])


def test_recorded_live_time_returns_the_recorded_counts(recording: Path, cube: np.ndarray) -> None:
    microscope = ready(recording)
    points = all_points(COLUMNS, ROWS)
    found = microscope.acquire_spectra(points, np.full(len(points), RECORDED_S), (COLUMNS, ROWS))
    np.testing.assert_array_equal(found.counts.reshape(cube.shape), cube)
    axis = microscope.energy_axis()
    assert (axis.channels, axis.offset_kev, axis.scale_kev) == (CHANNELS, -0.1, 0.02)


def test_image_is_the_first_by_name_in_the_type_asked_for(recording: Path) -> None:
    expected = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) * 5
    window = (COLUMNS, ROWS)
    image = ready(recording, pixel_type="uint16").scan_area(full_frame(window), 1000, window)
    np.testing.assert_array_equal(image, expected)
    image = ready(recording).scan_area(full_frame(window), 1000, window)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected // 257)


def test_coarser_grid_takes_the_spectrum_under_the_centre(recording: Path, cube: np.ndarray) -> None:
    points = all_points(COLUMNS // 4, ROWS // 4)
    live = np.full(len(points), RECORDED_S)
    found = ready(recording).acquire_spectra(points, live, (COLUMNS // 4, ROWS // 4)).counts
    np.testing.assert_array_equal(found.reshape(ROWS // 4, COLUMNS // 4, CHANNELS), cube[2::4, 2::4])


def test_shorter_live_time_thins_the_counts_binomially(recording: Path, cube: np.ndarray) -> None:
    points = all_points(COLUMNS, ROWS)
    microscope, share = ready(recording), 0.3

    def thinned(share: float, seed: int) -> np.ndarray:
        live = np.full(len(points), RECORDED_S * share)
        found = ready(recording, seed=seed).acquire_spectra(points, live, (COLUMNS, ROWS))
        return found.counts.reshape(cube.shape).astype(int)

    found = thinned(share, 1)
    assert (found <= cube).all()
    for count in (1, 2, 5, 9):
        kept = found[cube == count]
        sigma = (count * share * (1 - share)) ** 0.5
        assert kept.mean() == pytest.approx(count * share, abs=5 * sigma / len(kept) ** 0.5)
        assert kept.std() == pytest.approx(sigma, rel=0.05)
    # The same order gives the same photons, another live time or seed takes others.
    np.testing.assert_array_equal(thinned(share, 1), found)
    single = cube == 1
    for other in (thinned(share, 2), thinned(0.31, 1)):
        assert abs(np.corrcoef(other[single], found[single])[0, 1]) < 0.05
    assert microscope.acquire_spectra(np.array([[7, 5]]), np.array([0.1]), (COLUMNS, ROWS)).counts.sum() == 0


def test_longer_live_time_is_refused_or_repeats_the_photons(recording: Path, cube: np.ndarray) -> None:
    point, live = np.array([[30, 60]]), np.array([2.25 * RECORDED_S])
    with pytest.raises(CapabilityError, match=r"recorded are 0\.5 s"):
        ready(recording).acquire_spectra(point, live, (COLUMNS, ROWS))
    microscope = ready(recording, is_spectrum_repeated=True)
    found = microscope.acquire_spectra(point, live, (COLUMNS, ROWS)).counts[0].astype(int)
    assert (found >= 2 * cube[60, 30]).all()
    assert (found <= 3 * cube[60, 30]).all()
    assert found.sum() > 2 * cube[60, 30].sum()


def test_point_that_was_not_recorded_is_refused_with_its_place(recording: Path) -> None:
    microscope = ready(recording)
    microscope.move_stage(70 * PIXEL_MM, 50 * PIXEL_MM)
    with pytest.raises(CapabilityError, match=r"panorama px \(120, 3\)"):
        microscope.acquire_spectra(np.array([[0, 0], [110, 3]]), np.full(2, 0.1), (COLUMNS, ROWS))
    assert microscope._memory.scans == 0


def test_without_a_spectrum_image_there_is_no_capability(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of recording, directory and spectrum_image"):
        ReplayMicroscope()
    with pytest.raises(ValueError, match="recorded_live_time_s"):
        ReplayMicroscope(spectrum_image=str(tmp_path / "map.npz"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shape": np.array([2, 2, 4])}, "outside"),
        ({"idx": np.array([5, 5]), "val": np.array([1, 1])}, "do not rise"),
        ({"energy_scale_keV": 0.0}, "energy axis"),
        ({"image_BSE": np.zeros((3, 3), dtype=np.uint8)}, "expected an image"),
        ({"val": None}, "KeyError"),
    ],
    ids=str,
)
def test_file_that_is_no_spectrum_image_is_refused(
    recording: Path, changes: dict[str, object], reason: str
) -> None:
    with np.load(recording) as file:
        content = {**file, **changes}
    np.savez(recording, **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(ValueError, match=reason):
        ready(recording)
    with pytest.raises(ValueError, match=r"map\.npy"):
        ready(recording.with_suffix(".npy"))


def test_other_files_are_read_by_rosettasciio(cube: np.ndarray, tmp_path: Path) -> None:
    hspy = pytest.importorskip("rsciio.hspy")
    units = {"size": ROWS, "offset": 0.0, "scale": PIXEL_MM * 1e3, "units": "µm", "navigate": True}
    hspy.file_writer(
        str(tmp_path / "map.hspy"),
        {
            "data": cube.astype(np.uint16),
            "axes": [
                {"name": "y", **units},
                {"name": "x", **units, "size": COLUMNS},
                {**units, "name": "E", "size": CHANNELS, "scale": 20.0, "units": "eV", "navigate": False},
            ],
            "metadata": {"General": {"title": "map"}, "Signal": {"signal_type": "EDS_SEM"}},
            "original_metadata": {},
            "attributes": {"_lazy": False, "ragged": False},
            "package_info": {"name": "test", "version": "1"},
            "learning_results": {},
            "models": {},
            "tmp_parameters": {},
        },
    )
    microscope = ready(tmp_path / "map.hspy")
    points = all_points(COLUMNS, ROWS)
    found = microscope.acquire_spectra(points, np.full(len(points), RECORDED_S), (COLUMNS, ROWS))
    np.testing.assert_array_equal(found.counts.reshape(cube.shape), cube)
    axis = microscope.energy_axis()
    assert (axis.offset_kev, axis.scale_kev) == pytest.approx((-0.01, 0.02))  # 0 keV is mid-channel there
    assert microscope.get_view_field() == pytest.approx(COLUMNS * PIXEL_MM)
    image = microscope.scan_area(full_frame((COLUMNS, ROWS)), 1000, (COLUMNS, ROWS))
    assert np.corrcoef(image.ravel(), cube.sum(axis=2).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("name", ["chevkinite_30x30", "granite_P45_75x100", "cathode_AlCu_240x320"])
def test_real_spectrum_images_come_back_whole(name: str) -> None:
    if not MAPS.is_dir():
        pytest.skip("the recorded spectrum images are not here")
    with np.load(MAPS / f"{name}.npz") as file:
        rows, columns, channels = (int(size) for size in file["shape"])
        pixels = np.bincount(file["idx"] // channels, weights=file["val"], minlength=rows * columns)
        energies = np.bincount(file["idx"] % channels, weights=file["val"], minlength=channels)
    microscope, points = ready(MAPS / f"{name}.npz"), all_points(columns, rows)
    window, found = (columns, rows), np.zeros(channels)
    for part in np.array_split(np.arange(len(points)), 20):
        live = np.full(len(part), RECORDED_S)
        counts = microscope.acquire_spectra(points[part], live, window).counts
        np.testing.assert_array_equal(counts.sum(axis=1), pixels[part])
        found += counts.sum(axis=0)
    np.testing.assert_array_equal(found, energies)
    assert microscope.scan_area(full_frame(window), 1000, window).shape == (rows, columns)
