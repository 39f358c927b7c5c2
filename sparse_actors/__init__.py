"""Adaptive electron microscopy: beam time only where it matters."""

from typing import TYPE_CHECKING, Any

from .version import VERSION as __version__

if TYPE_CHECKING:
    from .network.listener import listen as listen
    from .results.run import Run as Run

__all__ = ["Run", "__version__", "listen"]


def __getattr__(name: str) -> Any:
    # Sockets are loaded by those who listen, HDF5 by those who read, and neither by every command.
    if name == "listen":
        from .network.listener import listen

        return listen
    if name == "Run":
        from .results.run import Run

        return Run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
