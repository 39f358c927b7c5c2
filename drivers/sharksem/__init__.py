"""TESCAN microscopes through SharkSEM, the remote control of the vendor's own software."""

from .microscope import SharkSemMicroscope

__all__ = ["SharkSemMicroscope"]
