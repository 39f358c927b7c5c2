"""A trained scorer of candidates: a network or trees in an ONNX file, and what it says of itself.

The graph takes `features` (n, features) of float32 and gives `score` (n,) of float32, the share of sites
among candidates of that score on tiles that it was not trained on. What belongs to it is in the metadata of
the file: see `ScorerFacts`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparse_actors.errors import ConfigError, DetectorError

from .candidates import FEATURES

KEY = "sparse_actors_scorer"
"""Of the entry in the metadata of the ONNX file."""
FORMAT = 1
DEFAULT = ("sparse_actors.models", "weights", "steel_voids.onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerFacts:
    """What the detector must know of a scorer; the model card beside the file tells people more."""

    format: int
    features: tuple[str, ...]
    scale: int
    """Analysis pixels per fast pixel of the images it was trained on."""
    dwell_ns: float
    """Of those fast images."""
    polarity: Literal["dark", "bright"]
    least_depth_grey: float
    """See `candidates`."""
    score_at_recall: tuple[tuple[float, float], ...]
    """(recall, score): of the sites of held-out tiles such a share has a candidate of that score or more."""

    def to_json(self) -> str:
        """Return it as the metadata hold it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ScorerFacts:
        """Read what `to_json` gave; raises ValueError where it is not that."""
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError("no scorer of this format")
        try:
            values = {entry.name: data[entry.name] for entry in fields(cls)}
            values["features"] = tuple(map(str, values["features"]))
            values["score_at_recall"] = tuple((float(r), float(s)) for r, s in values["score_at_recall"])
            facts = cls(**values)
            is_sound = facts.scale >= 1 and facts.least_depth_grey > 0 and facts.score_at_recall
        except (KeyError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        if not is_sound or facts.polarity not in ("dark", "bright"):
            raise ValueError(f"no scorer can have been trained so: {values}")
        if facts.features != FEATURES:
            raise ValueError("it was trained on other features, by another version: train it again")
        return facts

    def score_for(self, recall: float) -> float:
        """Return the score that `recall` of the held-out sites reached; raises ConfigError if none does."""
        fitting = [score for reached, score in self.score_at_recall if reached >= recall]
        if not fitting:
            most = max(reached for reached, _ in self.score_at_recall)
            raise ConfigError(
                f"recall = {recall:g}: on the tiles it was judged on, the scorer finds {most:.4g} at most; "
                "ask for less, or scan with a finer pitch"
            )
        return max(fitting)


class Scorer:
    """Scores candidates by their features.

    Parameters
    ----------
    path
        The ONNX file; None: the one that comes with the program, trained on simulated dual-phase steel.

    Raises
    ------
    DetectorError
        The file is not there, or is no scorer.
    """

    def __init__(self, path: Path | None = None) -> None:
        import onnxruntime

        data = model_bytes(path)
        options = onnxruntime.SessionOptions()
        # One thread: sums in another order would differ in the last bit, and a pool has a worker per core.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
            metadata = self._session.get_modelmeta().custom_metadata_map
            self.facts = ScorerFacts.from_json(metadata[KEY])
        except Exception as error:  # onnxruntime's errors have no common base.
            raise DetectorError(f"{path or DEFAULT[-1]} is no scorer of candidates: {error}") from error

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the score (n,) of each row of features (n, features)."""
        if not len(features):
            return np.empty(0)
        found: NDArray[np.float64] = self._session.run(["score"], {"features": features})[0]
        return found.reshape(-1).astype(np.float64)


def model_bytes(path: Path | None) -> bytes:
    """Return the file of a scorer; raises DetectorError."""
    package, *inner = DEFAULT
    try:
        return files(package).joinpath(*inner).read_bytes() if path is None else path.read_bytes()
    except OSError as error:
        raise DetectorError(f"{path or DEFAULT[-1]}: the scorer cannot be read: {error}") from error


def model_sha256(path: Path | None) -> str:
    """Return what tells a scorer from others."""
    return hashlib.sha256(model_bytes(path)).hexdigest()


@lru_cache(maxsize=4)
def facts_of(path: Path | None) -> ScorerFacts:
    """Return what a scorer says of itself."""
    return Scorer(path).facts
