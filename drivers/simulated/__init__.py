"""The simulated microscope: a synthetic specimen under an instrument that keeps honest time."""

from .microscope import SimulatedMicroscope
from .specimen import Specimen, Voids

__all__ = ["SimulatedMicroscope", "Specimen", "Voids"]
