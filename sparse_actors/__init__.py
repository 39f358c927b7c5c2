"""Adaptive electron microscopy: beam time only where it matters."""

from .version import VERSION as __version__

__all__ = ["__version__"]
