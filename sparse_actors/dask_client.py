"""Reaching a Dask cluster, for detection in a run and for work over recorded images.

The address has no scheme of Dask's own: with `DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME=tls`, and certificates
in Dask's own configuration, the connection is encrypted.
"""

from __future__ import annotations

import socket
from typing import Any

from sparse_actors.errors import ConfigError

SCHEME = "dask://"
CONNECT_S = 20.0


def find_scheduler(url: str, asked_by: str) -> tuple[type[Any], str]:
    """Return Dask's class of clients, and the address of a scheduler that can be reached.

    Parameters
    ----------
    url
        "dask://host:port".
    asked_by
        How the user named it, for errors.

    Raises
    ------
    ConfigError
        Dask is not installed, or nobody answers there.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ConfigError(
            f"{asked_by}: needs the package distributed: pip install sparse-actors[dask]"
        ) from None
    address = url.removeprefix(SCHEME)
    host, _, port = address.rpartition(":")
    try:
        # A client that does not connect leaves its thread behind: see first that somebody is there.
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{asked_by}: there is no scheduler: {error}") from None
    return Client, address
