"""The configuration of a run: one table a subject, units in the names of the keys.

`load_config` reads a file with its overrides, `parse_config` a text. Both check everything,
single values and how they fit together, and report all that is wrong at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from .config_rules import checked, known_keys
from .config_sharing import HooksTable, PageTable, Table, TapsTable, WorkersTable
from .config_sources import find, gather, leaves, read
from .errors import ConfigError
from .geometry import Panorama, TileOrder
from .imaging import Imaging, ScanTiming
from .planning.audit import AuditPlan
from .planning.survey_plan import FieldsPlan
from .sampling.erd_model import ErdModel, default
from .sampling.map_plan import MapPlan
from .toml_text import dotted, toml_document

Size = tuple[Annotated[int, Field(ge=1, le=65536)], Annotated[int, Field(ge=1, le=65536)]]
StageMm = Annotated[float, Field(ge=-1000, le=1000)]
PointMm = tuple[StageMm, StageMm]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Percent = Annotated[float, Field(ge=0, le=100)]
WorkingDistanceMm = Annotated[float, Field(gt=0, le=1000)]


class RunTable(Table):
    """The run and where it is recorded."""

    name: str = Field(default="survey", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """name of the run and its folder: letters, digits, '.', '_' and '-'"""
    out_dir: Path = Path("runs")
    """directory of the run folders, relative to the current directory"""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """seed of everything random, recorded with the run"""


class SampleTable(Table):
    """What is under the beam; kept with the result."""

    name: str = ""
    """name of the sample; left out, the name of the run"""
    preparation_date: str = Field(
        default="", pattern=r"^(\d{4}-\d{2}-\d{2}(T[0-9:.]+(Z|[+-]\d{2}:\d{2})?)?)?$"
    )
    """when it was prepared, such as 2026-11-21"""
    elements: tuple[Annotated[str, Field(pattern=r"^[A-Z][a-z]?$")], ...] = ()
    """symbols of the elements in it, such as ["Fe", "C", "Mn"]"""


class MicroscopeTable(Table):
    """The instrument."""

    driver: str = Field(min_length=1, examples=["simulated"])
    """name of an installed driver, "module:Class" of your own, or ipc://... where a process hosts one"""
    options: dict[str, Any] = {}
    """what the driver takes, see its documentation"""
    beam_current_pa: float | None = Field(default=None, gt=0, lt=1e9)
    """probe current in picoampere, to predict the dose; leave out if not known"""


class AtCornersTable(Table):
    """Values set at the three corners and interpolated as a plane over the panorama."""

    working_distance_mm: tuple[WorkingDistanceMm, WorkingDistanceMm, WorkingDistanceMm] | None = None
    """working distance in mm at each of the three corners; left out, it stays as it is"""
    brightness_pct: tuple[Percent, Percent, Percent] | None = None
    """brightness (black level) in percent at each of the three corners; left out, it stays as it is"""
    contrast_pct: tuple[Percent, Percent, Percent] | None = None
    """contrast (gain) in percent at each of the three corners; left out, it stays as it is"""


class PanoramaTable(Table):
    """The area of the specimen and how it is cut up."""

    corners_mm: tuple[PointMm, PointMm, PointMm] = Field(examples=[((0.0, 0.0), (1.2, 0.0), (0.0, 0.8))])
    """top left, top right and bottom left corner of the area, each [x, y] of the stage in mm"""
    tile_fov_um: float = Field(gt=0, le=100_000, examples=[100.0])
    """width of a field of view in micrometre; its height follows from scan.analysis.size_px"""
    overlap_pct: float = Field(default=5.0, ge=0, lt=90)
    """least overlap of neighbouring tiles in percent of the field of view"""
    order: TileOrder = "serpentine"
    """order of the tiles: there and back, or every row from the left"""
    partitions: int = Field(default=4, ge=1, le=256)
    """parts of a tile that are scanned and detected in turn: 2 or a square number"""
    grid: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    """[rows, columns] of tiles; left out, as many as the area needs; a resumed run keeps its own"""
    at_corners: AtCornersTable = AtCornersTable()

    def geometry(self, size_px: tuple[int, int]) -> Panorama:
        """Return the tiles of the area, for a field of view of (width, height) pixels.

        Raises
        ------
        ValueError
            The corners do not span a rectangle.
        """
        width_mm = self.tile_fov_um * 1e-3
        fov_mm = (width_mm, width_mm * size_px[1] / size_px[0])
        return Panorama(self.corners_mm, fov_mm, self.overlap_pct / 100, self.grid)


class ScanTable(Table):
    """One set of imaging parameters."""

    size_px: Size = Field(examples=[(768, 768)])
    """[width, height] of the whole field of view in pixels"""
    dwell_ns: float = Field(gt=0, lt=1e12, examples=[300.0])
    """time on each pixel in nanoseconds"""

    def imaging(self) -> Imaging:
        """Return the parameters as the scheduler wants them."""
        return Imaging(self.size_px, self.dwell_ns)


class TimingTable(Table):
    """What a scan costs beside the dwell time."""

    row_overhead_us: float = Field(default=0.0, ge=0, lt=1e9)
    """flyback at the end of every line in microseconds"""
    scan_overhead_ms: float = Field(default=0.0, ge=0, lt=1e9)
    """fixed cost of every scan in milliseconds"""


class ScanTables(Table):
    """The fast scan, the analysis scan, and their cost in time."""

    fast: ScanTable
    analysis: ScanTable
    timing: TimingTable | None = None
    """what a scan costs beside the dwell time; left out, the driver's own figures count"""
    order: Literal["paper", "hold_back"] = "hold_back"
    """rescan as soon as regions are known, or hold rescans back to fill the time of detections"""


class DetectTable(Table):
    """Finding points of interest in the fast images."""

    detector: str = Field(default="threshold_dbscan", min_length=1)
    """name of an installed detector, or "module:Class" of your own"""
    options: dict[str, Any] = {}
    """what the detector takes, see its documentation"""
    deadline_s: float = Field(default=60.0, gt=0, le=86400)
    """seconds after which a detection is given up and its worker replaced"""
    halo_px: int = Field(default=32, ge=0, le=65_536)
    """fast pixels detected again around borders of partitions, if the detector says its reach; 0: none"""
    on_failure: Literal["rescan", "skip"] = "rescan"
    """what becomes of a partition whose detection failed twice: rescan all of it, or nothing"""
    needs: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")], ...] = ()
    """tags of the workers that may detect, such as ["gpu"] (`worker --tag gpu`); empty: all workers"""


class RegionsTable(Table):
    """What is rescanned around a point of interest."""

    size_px: Size = (128, 128)
    """[width, height] of the region around each point in analysis pixels"""
    placement: Literal["centred", "free"] = "centred"
    """one region centred on each point, or as few as hold everything that was found with its margin"""
    margin_px: int = Field(default=16, ge=0, le=65536)
    """what a freely placed region shows around each find, analysis pixels"""
    merge: Literal["mask", "bounding_box", "greedy"] = "greedy"
    """how overlapping regions are joined; mask: not at all, their union is scanned and nothing else"""


class AuditTable(Table):
    """Windows drawn at random where nobody proposed anything, to estimate what a survey misses."""

    windows: int = Field(default=4, ge=1, le=10_000)
    """windows in each tile"""
    size_px: Size = (128, 128)
    """[width, height] of a window, analysis pixels"""
    margin_px: int = Field(default=16, ge=0, le=65_536)
    """scanned around each window, so that what lies at its edge is seen whole"""
    options: dict[str, Any] | None = None
    """what the detector takes on images at analysis quality; left out: detect.options"""
    least_recall_pct: float | None = Field(default=None, gt=0, lt=100)
    """the run pauses once fewer percent of the sites are found, with 95 % confidence; left out: never"""

    def plan(self) -> AuditPlan:
        """In domain terms."""
        return AuditPlan(
            windows=self.windows,
            window_px=self.size_px,
            margin_px=self.margin_px,
            least_recall=None if self.least_recall_pct is None else self.least_recall_pct / 100,
        )


class InspectTable(Table):
    """A second look at what was rescanned, at analysis quality: a site, or an artefact."""

    detector: str = Field(default="threshold_dbscan", min_length=1)
    """detector, installed or "module:Class" of your own; where it finds nothing is an artefact"""
    options: dict[str, Any] = Field(default={}, examples=[{"threshold": 55}])
    """what this detector takes, see its documentation"""


class PairsTable(Table):
    """Whole tiles scanned fast and for analysis, to choose the operating point by; read by `pairs` only."""

    tiles: int | None = Field(default=None, ge=1, le=1_000_000)
    """how many tiles, drawn at random by run.seed; left out, 10 or all that there are"""
    at: tuple[Annotated[str, Field(pattern=r"^r[0-9]{3,}c[0-9]{3,}$")], ...] = ()
    """these tiles in place of random ones, by name, such as ["r000c003", "r002c001"]"""
    fast: tuple[ScanTable, ...] = ()
    """fast settings to compare, each with size_px and dwell_ns; left out, scan.fast alone"""


class EdsTable(Table):
    """X-ray maps of phases, by spectra at single points chosen as the map grows."""

    where: Literal["field", "regions"] = Field(examples=["field"])
    """map whole tiles without a survey, or the regions that the survey found"""
    grid_px: Size = Field(examples=[(256, 256)])
    """[width, height]: the points of a map that would fill the whole field of view"""
    live_time_ms: float = Field(gt=0, le=1e6, examples=[100.0])
    """time at each point in milliseconds, dead time not counted"""
    dead_time_pct: float = Field(default=0.0, ge=0, le=95)
    """expected dead time in percent of the time at a point; a run goes by what its first spectra take"""
    live_time_range_ms: tuple[Positive, Positive] | None = None
    """[shortest, longest]: the time is adapted to what the classifier needs; left out, it stays"""
    points_pct: float = Field(default=15.0, gt=0, le=100)
    """most points of a field that are measured, in percent"""
    distortion_pct: float | None = Field(default=None, gt=0, lt=100)
    """a map ends when at most so many percent of its pixels are wrong; left out, points_pct decides"""
    time_min: float | None = Field(default=None, gt=0, le=1e6)
    """beam time in minutes for all maps together; left out, there is no limit"""
    largest: int | None = Field(default=None, ge=1, le=1_000_000)
    """only so many regions, the largest of the run; left out, all of them"""
    classifier: str = Field(default="likelihood", min_length=1)
    """name of an installed classifier of spectra, or "module:Class" of your own"""
    options: dict[str, Any] = {}
    """what the classifier takes, see its documentation"""
    new_phases: Literal["accept", "ignore"] = "accept"
    """what becomes of spectra that fit no known phase and are alike: a phase of their own, or none"""
    sampler: Path | None = None
    """file that `train sampler` made; left out, the one that comes with the program"""
    beam_kev: float | None = Field(default=None, gt=0, le=1000)
    """energy of the beam in keV, kept with the spectra; leave out if not known"""
    start: Literal["halton", "sobol", "r2", "random", "uniform"] = "halton"
    """how the first points of a field are spread"""
    start_pct: float = Field(default=1.0, gt=0, le=100)
    """how many percent of the field they are"""

    def plan(self, seed: int, attempts: int) -> MapPlan:
        """Put the table into domain terms.

        Raises
        ------
        ConfigError
            The sampler's file cannot be used.
        """
        shortest_ms, longest_ms = self.live_time_range_ms or (self.live_time_ms, self.live_time_ms)
        return MapPlan(
            live_time_s=self.live_time_ms / 1000,
            live_time_range_s=(shortest_ms / 1000, longest_ms / 1000),
            fraction=self.points_pct / 100,
            distortion=None if self.distortion_pct is None else self.distortion_pct / 100,
            finds_phases=self.new_phases == "accept",
            model=default() if self.sampler is None else _sampler(self.sampler),
            start=self.start,
            start_fraction=min(self.start_pct, self.points_pct) / 100,
            seed=seed,
            attempts=attempts,
        )

    def fields(self) -> FieldsPlan:
        """Say where maps are made."""
        time_s = None if self.time_min is None else 60 * self.time_min
        return FieldsPlan(
            where=self.where,
            grid_px=self.grid_px,
            largest=self.largest,
            time_s=time_s,
            dead_share=self.dead_time_pct / 100,
        )


def _sampler(path: Path) -> ErdModel:
    try:
        return ErdModel.from_json(path.read_text("utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"eds.sampler = {str(path)!r}: {error}") from None


class LimitsTable(Table):
    """Bounds that keep a run safe."""

    in_flight_mb: float = Field(default=512.0, gt=0, le=1e6)
    """megabytes of images scanned and not yet recorded or detected; beyond it no scan begins"""
    scan_attempts: int = Field(default=3, ge=1, le=100)
    """how often a scan is tried before it is reported missing"""
    max_dose_e_per_nm2: float | None = Field(default=None, gt=0, lt=1e12)
    """electrons per nm^2 that no pixel gets more of, all scans together; left out, there is no limit"""
    min_free_disk_gb: float = Field(default=5.0, ge=0, le=1e6)
    """gigabytes that must stay free on the disk of the run"""


class Config(Table):
    """Everything a run needs."""

    run: RunTable = RunTable()
    sample: SampleTable = SampleTable()
    microscope: MicroscopeTable
    panorama: PanoramaTable
    scan: ScanTables
    detect: DetectTable = DetectTable()
    regions: RegionsTable = RegionsTable()
    pairs: PairsTable | None = None
    eds: EdsTable | None = None
    audit: AuditTable | None = None
    inspect: InspectTable | None = None
    workers: WorkersTable = WorkersTable()
    taps: TapsTable = TapsTable()
    page: PageTable = PageTable()
    limits: LimitsTable = LimitsTable()
    hooks: HooksTable = HooksTable()

    def for_survey(self) -> Config:
        """Return the configuration of a survey, maps or both: without [pairs]."""
        return self.model_copy(update={"pairs": None})

    def for_pairs(self) -> Config:
        """Return the configuration of pairs, named so, without what follows a survey."""
        run = self.run.model_copy(update={"name": f"{self.run.name[:58]}-pairs"})
        left_out = {"eds": None, "audit": None, "inspect": None}
        return self.model_copy(update={"run": run, "pairs": self.pairs or PairsTable(), **left_out})

    @property
    def tap_endpoints(self) -> tuple[str, str]:
        """Where taps listen, and for images; a page listens to the maps, so that it has them opened."""
        otherwise = "tcp://127.0.0.1:*" if self.page.listen else ""
        return self.taps.listen or otherwise, self.taps.images_listen or otherwise

    @property
    def fast(self) -> Imaging:
        """The parameters of the fast scan, theta_fast."""
        return self.scan.fast.imaging()

    @property
    def analysis(self) -> Imaging:
        """The parameters of the rescans, theta_analysis."""
        return self.scan.analysis.imaging()

    @property
    def inspector(self) -> tuple[str, dict[str, Any]]:
        """The detector for images at analysis quality, and its options."""
        if self.inspect is not None:
            return self.inspect.detector, self.inspect.options
        given = None if self.audit is None else self.audit.options
        return self.detect.detector, self.detect.options if given is None else given

    @property
    def scale(self) -> int:
        """Analysis pixels per fast pixel, the same on both axes."""
        return self.scan.analysis.size_px[0] // self.scan.fast.size_px[0]

    @property
    def timing(self) -> ScanTiming | None:
        """The overheads given; None leaves them to the driver."""
        given = self.scan.timing
        return ScanTiming(given.row_overhead_us, given.scan_overhead_ms) if given else None

    def to_toml(self) -> str:
        """Write the resolved configuration; `parse_config` reads it back to an equal one."""
        return toml_document(self.model_dump(), known_keys(Config))


def load_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Config:
    """Read the configuration of a run.

    Parameters
    ----------
    path
        The file; None looks where `config_sources.find` says.
    overrides
        "key=value", as after `--set`; they win over the environment, which wins over the file.
    environ
        The environment variables, by default those of this process.

    Raises
    ------
    ConfigError
        With every problem at once.
    """
    environ = os.environ if environ is None else environ
    file = find(path, environ)
    return checked(Config, gather(read(file), overrides, environ, str(file)))


def parse_config(
    text: str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Config:
    """Read a configuration from TOML text; the environment counts only if it is given."""
    return checked(Config, gather(text, overrides, environ))


def origins(
    config: Config,
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Say of every value where it comes from; the arguments are those `config` was loaded with."""
    environ = os.environ if environ is None else environ
    file = find(path, environ)
    settings = gather(read(file), overrides, environ, str(file))
    given = {key for key, _ in leaves(settings.data)}
    return {
        dotted(key): settings.origin(key) or (f"file {file}" if key in given else "default")
        for key, value in leaves(config.model_dump())
        if value is not None
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors that complete and check TOML."""
    described = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}
