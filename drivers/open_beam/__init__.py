"""Scans with the Open Beam Interface, a scan generator that moves the beam of any microscope."""

from .microscope import OpenBeamMicroscope

__all__ = ["OpenBeamMicroscope"]
