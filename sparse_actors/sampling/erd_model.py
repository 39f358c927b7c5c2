"""How the expected reduction in distortion follows from the features of a pixel: what training leaves."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Literal, get_args

from .features import REPEATED_FOR_LABELS, TERMS, FeatureSet

ValueKind = Literal["labels", "continuous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErdModel:
    """A trained sampler, independent of any field."""

    coefficients: tuple[float, ...]
    """Of the polynomial's terms in the order of `features`: 26 for labels, 28 for continuous values."""
    features: FeatureSet = "slads"
    values: ValueKind = "labels"
    window_c: float = 8.0
    """The c of training: an error counts with exp(-r^2 c^2 / (2 d_1^2)) at r px from the pixel measured."""
    trained_on: str = ""
    """What it was trained on, for people."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "coefficients", tuple(float(c) for c in self.coefficients))
        if self.features not in get_args(FeatureSet):
            raise ValueError(f"features = {self.features!r}: must be one of {get_args(FeatureSet)}")
        if self.values not in get_args(ValueKind):
            raise ValueError(f"values = {self.values!r}: must be one of {get_args(ValueKind)}")
        expected = TERMS - len(REPEATED_FOR_LABELS) * (self.values == "labels")
        if len(self.coefficients) != expected:
            raise ValueError(f"expected {expected} coefficients, got {len(self.coefficients)}")
        if not all(map(math.isfinite, self.coefficients)):
            raise ValueError("coefficients must be finite numbers")
        if not 0 < self.window_c < math.inf:
            raise ValueError(f"window_c = {self.window_c}: must be above 0")

    def to_json(self) -> str:
        """Return the model as JSON, which `from_json` reads back exactly."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ErdModel:
        """Read a model.

        Raises
        ------
        ValueError
            When the text is no JSON, or a key or value is not one of a model.
        """
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("expected the fields of a sampler, got something else")
        if unknown := found.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"a sampler has no {', '.join(sorted(unknown))}")
        if "coefficients" not in found:
            raise ValueError("a sampler needs coefficients")
        return cls(**found)


def default() -> ErdModel:
    """Return the sampler that comes with the program."""
    return ErdModel.from_json(
        resources.files(__package__).joinpath("default_sampler.json").read_text("utf-8")
    )
