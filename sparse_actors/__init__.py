"""Adaptive electron microscopy: beam time only where it matters."""

from typing import TYPE_CHECKING, Any

from .version import VERSION as __version__

if TYPE_CHECKING:
    from .network.listener import listen as listen

__all__ = ["__version__", "listen"]


def __getattr__(name: str) -> Any:
    # Sockets are loaded by those who listen, not by every command.
    if name == "listen":
        from .network.listener import listen

        return listen
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
