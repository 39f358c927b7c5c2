"""Checking a configuration as a whole, so that every problem is reported at once.

Single values are checked by pydantic. What remains is how they fit together: each rule says
which keys it reads and is applied when these are sound, whatever is wrong elsewhere.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from . import plugins
from .config_report import UNKNOWN_KEY, came, describe
from .config_sources import Settings
from .errors import ConfigError
from .geometry import partition_boxes
from .imaging import dose_e_per_nm2, spot_s
from .network.endpoints import listen_problem, pool_problem, tap_problem
from .network.keys import Keys, keys_folder
from .page.access import parse_listen
from .toml_text import Key

if TYPE_CHECKING:
    from .config import Config

MAX_TILES = 1_000_000
MAX_BYTES_PER_PIXEL = 2


def checked(model: type[Config], settings: Settings) -> Config:
    """Return the configuration, or raise ConfigError with everything that is wrong with it."""
    known = known_keys(model)
    config, problems, unusable = _sound_part(model, settings.data, known)
    for rule, keys in RULES.items():
        if not any(_touches(key, bad) for key in keys for bad in unusable):
            problems += rule(config)
    if problems or settings.problems:
        raise ConfigError(*settings.problems, *(_with_origin(text, settings) for text in problems))
    return config


def _with_origin(problem: str, settings: Settings) -> str:
    """Add where the value comes from, if not from the file; every problem starts with its key."""
    key = re.split("[ :]", problem, maxsplit=1)[0].split(".")
    origin = settings.origin(tuple(key))
    return f"{problem} [from {origin}]" if origin else problem


def known_keys(model: type[BaseModel], above: Key = ()) -> dict[Key, str]:
    """Return every key of a model, tables included, with what it means."""
    keys: dict[Key, str] = {}
    for name, field in model.model_fields.items():
        example = f", for example {came(field.examples[0])}" if field.examples else ""
        keys[*above, name] = (field.description or "") + example
        if table := _table(field.annotation):
            keys |= known_keys(table, (*above, name))
    return keys


def _table(annotation: Any) -> type[BaseModel] | None:
    """Return the model behind an annotation, which may be optional."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _sound_part(
    model: type[Config], given: Mapping[str, Any], known: Mapping[Key, str]
) -> tuple[Config, list[str], set[Key]]:
    """Validate, and put the default or the example in the place of what is wrong.

    Returns
    -------
    config
        A valid configuration: the one given, or a substitute for the rules to read.
    problems
        A sentence for each single value that is wrong.
    unusable
        The keys that are substitutes.
    """
    data = copy.deepcopy(dict(given))
    problems: list[str] = []
    unusable: set[Key] = set()
    _add_tables(model, data)
    while True:
        try:
            # As JSON, whose types are those of TOML: a list becomes a tuple, text never a number.
            return model.model_validate_json(json.dumps(data, default=str)), problems, unusable
        except ValidationError as error:
            found = error.errors(include_url=False)
        described, keys = describe(found, given, known)
        if not unusable:
            problems = list(described.values())
        unusable |= keys
        for entry in found:
            if entry["type"] in UNKNOWN_KEY:
                _replace(model, data, tuple(str(part) for part in entry["loc"]))
        for key in keys:
            _replace(model, data, key)
        _add_tables(model, data)


def _add_tables(model: type[BaseModel], data: dict[str, Any]) -> None:
    """Add the required tables that are absent, so that their keys are missed, not they."""
    for name, field in model.model_fields.items():
        table = _table(field.annotation)
        if table and field.is_required():
            data.setdefault(name, {})
        if table and isinstance(data.get(name), dict):
            _add_tables(table, data[name])


def _replace(model: type[BaseModel], data: dict[str, Any], key: Key) -> None:
    """Take a value out; where there is no default, put the example of the schema in."""
    *tables, name = key
    current: type[BaseModel] | None = model
    for part in tables:
        data = data[part]
        current = _table(current.model_fields[part].annotation) if current else None
    data.pop(name, None)
    field = current.model_fields.get(name) if current else None
    if field and field.is_required() and field.examples:
        data[name] = field.examples[0]


def _touches(key: Key, other: Key) -> bool:
    return key[: len(other)] == other or other[: len(key)] == key


def _scale(config: Config) -> Iterator[str]:
    fast, analysis = config.scan.fast.size_px, config.scan.analysis.size_px
    if any(a % f or a // f != analysis[0] // fast[0] for f, a in zip(fast, analysis, strict=True)):
        near = max(1, round(analysis[0] / fast[0]))
        yield (
            f"scan.analysis.size_px = {came(analysis)}: expected the same whole multiple of "
            f"scan.fast.size_px = {came(fast)} on both axes, for example {came([n * near for n in fast])}"
        )


def _partitions(config: Config) -> Iterator[str]:
    try:
        partition_boxes(config.scan.fast.size_px, config.panorama.partitions)
    except ValueError as error:
        yield f"panorama.{error}"


def _corners(config: Config) -> Iterator[str]:
    try:
        config.panorama.geometry(config.scan.analysis.size_px)
    except ValueError as error:
        yield f"panorama.corners_mm = {came(config.panorama.corners_mm)}: {error}"


def _tiles(config: Config) -> Iterator[str]:
    try:
        panorama = config.panorama.geometry(config.scan.analysis.size_px)
    except ValueError:
        return  # _corners reports it.
    tiles = panorama.columns * panorama.rows
    if tiles > MAX_TILES:
        yield (
            f"panorama.corners_mm = {came(config.panorama.corners_mm)}: {tiles} tiles of tile_fov_um = "
            f"{config.panorama.tile_fov_um:g}, expected at most {MAX_TILES}; the corners are in millimetres"
        )


def _brightness(config: Config) -> Iterator[str]:
    values = config.panorama.at_corners
    given = [n for n in ("brightness_pct", "contrast_pct") if getattr(values, n) is not None]
    if len(given) == 1:
        yield f"panorama.at_corners.{given[0]}: brightness_pct and contrast_pct are set together; give both"


def _region(config: Config) -> Iterator[str]:
    region, field = config.regions.size_px, config.scan.analysis.size_px
    if region[0] > field[0] or region[1] > field[1]:
        yield (
            f"regions.size_px = {came(region)}: expected at most the field of view, "
            f"scan.analysis.size_px = {came(field)}"
        )


def _in_flight(config: Config) -> Iterator[str]:
    # A partition rescanned as a whole is the largest scan there can be.
    try:
        boxes = partition_boxes(config.scan.analysis.size_px, config.panorama.partitions)
    except ValueError:
        return  # _partitions reports it.
    needed_mb = max(box.area for box in boxes) * MAX_BYTES_PER_PIXEL / 1e6
    if config.limits.in_flight_mb < needed_mb:
        yield (
            f"limits.in_flight_mb = {config.limits.in_flight_mb:g}: expected at least {needed_mb:g}, one "
            "partition at analysis resolution; raise it or use more partitions"
        )


def _dose(config: Config) -> Iterator[str]:
    limit, current_pa = config.limits.max_dose_e_per_nm2, config.microscope.beam_current_pa
    if limit is None:
        return
    if current_pa is None:
        yield (
            f"limits.max_dose_e_per_nm2 = {limit:g}: needs microscope.beam_current_pa, the probe current in "
            "picoampere; measure it, or leave the limit out"
        )
        return
    field_nm = config.panorama.tile_fov_um * 1e3
    fast, analysis = (
        dose_e_per_nm2(current_pa, scan.dwell_ns, field_nm / scan.size_px[0])
        for scan in (config.scan.fast, config.scan.analysis)
    )
    eds = config.eds
    is_surveyed = eds is None or eds.where == "regions"
    if is_surveyed and fast + analysis > limit:
        yield (
            f"limits.max_dose_e_per_nm2 = {limit:g}: expected at least {fast + analysis:.4g}, one fast scan "
            f"({fast:.4g}) and one rescan ({analysis:.4g}); with less nothing would be rescanned"
        )
    if problem := spectrum_dose_problem(config):
        yield problem


def spectrum_dose_problem(config: Config, settling_s: float = 0.0) -> str:
    """Say if already one spectrum exceeds the limit of dose, or "".

    Drivers declare the settling time, so that it is 0 where only the configuration is known.
    """
    limit, current_pa, eds = config.limits.max_dose_e_per_nm2, config.microscope.beam_current_pa, config.eds
    if limit is None or current_pa is None or eds is None:
        return ""
    field_nm = config.panorama.tile_fov_um * 1e3
    longest_ms = eds.live_time_ms if eds.live_time_range_ms is None else eds.live_time_range_ms[1]
    one_s = spot_s(longest_ms / 1000, dead_share=eds.dead_time_pct / 100, settling_s=settling_s)
    spot = dose_e_per_nm2(current_pa, one_s * 1e9, field_nm / eds.grid_px[0])
    before = 0.0
    if eds.where == "regions":
        before = sum(
            dose_e_per_nm2(current_pa, scan.dwell_ns, field_nm / scan.size_px[0])
            for scan in (config.scan.fast, config.scan.analysis)
        )
    if before + spot <= limit:
        return ""
    return (
        f"limits.max_dose_e_per_nm2 = {limit:g}: a spectrum of {longest_ms:g} ms, {one_s * 1000:.4g} ms of "
        f"beam, on a point of {field_nm / eds.grid_px[0]:.4g} nm takes {spot:.4g}, after {before:.4g} by "
        "scans; measure it shorter, or on a coarser eds.grid_px"
    )


def _pairs(config: Config) -> Iterator[str]:
    if config.pairs is None:
        return
    analysis = config.scan.analysis.size_px
    for number, fast in enumerate(config.pairs.fast):
        if any(
            a % f or a // f != analysis[0] // fast.size_px[0]
            for f, a in zip(fast.size_px, analysis, strict=True)
        ):
            yield (
                f"pairs.fast: number {number + 1} has size_px = {came(fast.size_px)}; expected "
                f"scan.analysis.size_px = {came(analysis)} divided by a whole number"
            )
    if len(set(config.pairs.fast)) < len(config.pairs.fast):
        yield "pairs.fast: a setting comes twice; give each once"
    try:
        tiles = [str(tile) for tile in config.panorama.geometry(analysis).tiles("rows")]
    except ValueError:
        return  # _corners reports it.
    for name in config.pairs.at:
        if name not in tiles:
            yield f"pairs.at: there is no tile {name!r}; they are named {tiles[0]} to {tiles[-1]}"
    if len(set(config.pairs.at)) < len(config.pairs.at):
        yield "pairs.at: a tile comes twice; give each once"
    if (config.pairs.tiles or 1) > len(tiles):
        yield f"pairs.tiles = {config.pairs.tiles}: the panorama has {len(tiles)}"


def _listen(config: Config) -> Iterator[str]:
    if problem := listen_problem(config.workers.listen, Keys(keys_folder(os.environ))):
        yield f"workers.listen = {came(config.workers.listen)}: {problem}"
    if problem := pool_problem(config.workers.pool, config.workers.model_dump(exclude={"pool"})):
        yield problem
    taps = config.taps
    yield from filter(
        None, (tap_problem("listen", taps.listen), tap_problem("images_listen", taps.images_listen))
    )
    if taps.images_listen and not taps.listen:
        yield "taps.images_listen is set and taps.listen is not: taps learn there where the images are"
    taken: dict[int, str] = {}
    for key, listen in (
        ("taps.listen", taps.listen),
        ("taps.images_listen", taps.images_listen),
        ("workers.listen", config.workers.listen),
    ):
        port = listen.rpartition(":")[2]
        if not port.isdecimal():
            continue
        if other := taken.get(int(port)):
            yield f"{key} = {came(listen)}: the port is that of {other}; give another"
        taken[int(port)] = key
        if key == "taps.listen":
            taken[int(port) + 1] = "the facts, which is the next after taps.listen"


def _driver(config: Config) -> Iterator[str]:
    yield from plugins.check("microscope", config.microscope.driver, config.microscope.options)


def _detector(config: Config) -> Iterator[str]:
    yield from plugins.check("detector", config.detect.detector, config.detect.options)


def _audit(config: Config) -> Iterator[str]:
    audit, field = config.audit, config.scan.analysis.size_px
    if audit is None:
        return
    if config.eds is not None and config.eds.where == "field":
        yield 'audit: a run that maps whole tiles (eds.where = "field") misses no sites; leave [audit] out'
    if audit.size_px[0] > field[0] or audit.size_px[1] > field[1]:
        yield (
            f"audit.size_px = {came(audit.size_px)}: expected at most the field of view, "
            f"scan.analysis.size_px = {came(field)}"
        )
    if audit.options is not None and config.inspect is not None:
        yield "audit.options: [inspect] says already how sites are found at analysis quality; leave one out"
    elif audit.options is not None:
        for problem in plugins.check("detector", config.detect.detector, audit.options):
            yield problem.replace("detect.options", "audit.options")


def _inspect(config: Config) -> Iterator[str]:
    if config.inspect is None:
        return
    if config.eds is not None and config.eds.where == "field":
        yield 'inspect: a run that maps whole tiles (eds.where = "field") rescans no regions; leave it out'
    for problem in plugins.check("detector", config.inspect.detector, config.inspect.options):
        yield problem.replace("detect.", "inspect.")


def _classifier(config: Config) -> Iterator[str]:
    if config.eds is not None:
        yield from plugins.check("classifier", config.eds.classifier, config.eds.options)


def _mail(config: Config) -> Iterator[str]:
    hooks = config.hooks
    for key, value in (("mail_from", hooks.mail_from), ("mail_server", hooks.mail_server)):
        if hooks.mail_to and not value:
            yield f"hooks.{key} is missing: hooks.mail_to names somebody"


def _sampler(config: Config) -> Iterator[str]:
    if config.eds is not None:
        try:
            config.eds.plan(seed=0, attempts=1)
        except ConfigError as error:
            yield from error.problems


def _live_time(config: Config) -> Iterator[str]:
    if config.eds is not None and config.eds.live_time_range_ms is not None:
        shortest_ms, longest_ms = config.eds.live_time_range_ms
        if not shortest_ms <= config.eds.live_time_ms <= longest_ms:
            yield (
                f"eds.live_time_range_ms = [{shortest_ms:g}, {longest_ms:g}]: must hold "
                f"eds.live_time_ms = {config.eds.live_time_ms:g}"
            )


def _page(config: Config) -> Iterator[str]:
    if config.page.listen:
        try:
            parse_listen(config.page.listen)
        except ConfigError as error:
            yield str(error)


def _map_grid(config: Config) -> Iterator[str]:
    if config.eds is not None:
        (width, height), (columns, rows) = config.scan.analysis.size_px, config.eds.grid_px
        if columns * height != rows * width:
            yield (
                f"eds.grid_px = [{columns}, {rows}]: must have the shape of scan.analysis.size_px = "
                f"[{width}, {height}], such as [{width // 4}, {height // 4}]"
            )


_FAST, _ANALYSIS = ("scan", "fast", "size_px"), ("scan", "analysis", "size_px")
_PARTITIONS, _CORNERS = ("panorama", "partitions"), ("panorama", "corners_mm")

RULES: dict[Callable[[Config], Iterator[str]], tuple[Key, ...]] = {
    _scale: (_ANALYSIS, _FAST),
    _partitions: (_PARTITIONS,),
    _corners: (_CORNERS,),
    _tiles: (_CORNERS, ("panorama", "tile_fov_um"), ("panorama", "overlap_pct"), _ANALYSIS),
    _brightness: (("panorama", "at_corners"),),
    _region: (("regions", "size_px"), _ANALYSIS),
    _in_flight: (("limits", "in_flight_mb"), _PARTITIONS, _ANALYSIS),
    _dose: (
        ("limits", "max_dose_e_per_nm2"),
        ("microscope", "beam_current_pa"),
        ("panorama", "tile_fov_um"),
        ("scan", "fast"),
        ("scan", "analysis"),
    ),
    _pairs: (("pairs",), _ANALYSIS, _CORNERS),
    _listen: (("workers",), ("taps",)),
    _page: (("page",),),
    _driver: (plugins.NAME_KEY["microscope"], plugins.OPTIONS_KEY["microscope"]),
    _detector: (plugins.NAME_KEY["detector"], plugins.OPTIONS_KEY["detector"]),
    _audit: (("audit",), ("eds", "where"), plugins.NAME_KEY["detector"], _ANALYSIS),
    _inspect: (("inspect",), ("eds", "where"), ("audit", "options")),
    _classifier: (plugins.NAME_KEY["classifier"], plugins.OPTIONS_KEY["classifier"]),
    _sampler: (("eds", "sampler"),),
    _live_time: (("eds", "live_time_ms"), ("eds", "live_time_range_ms")),
    _mail: (("hooks", "mail_to"), ("hooks", "mail_from"), ("hooks", "mail_server")),
    _map_grid: (("eds", "grid_px"), _ANALYSIS),
}
"""Each rule with the keys it reads."""
