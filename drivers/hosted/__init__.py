"""Drivers that run in a process, and a Python, of their own."""

from .microscope import HostedMicroscope

__all__ = ["HostedMicroscope"]
