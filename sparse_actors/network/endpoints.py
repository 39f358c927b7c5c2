"""Where a run may listen for workers: on this computer, and with a key for others too."""

from __future__ import annotations

import ipaddress
import re

from sparse_actors.errors import ConfigError

from .keys import Keys

HIGHEST_PORT = 65535
_ENDPOINT = re.compile(r"tcp://(?:\[(?P<v6>[0-9a-f:]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5}|\*)")


def needs_keys(listen: str) -> bool:
    """Whether other computers can reach a valid endpoint."""
    match = _ENDPOINT.fullmatch(listen)
    return match is not None and not ipaddress.ip_address(match["v6"] or match["v4"]).is_loopback


def listen_problem(listen: str, keys: Keys | None) -> str:
    """Say what is wrong with an endpoint; empty if a run may listen there, or if it is empty.

    An address that other computers reach needs the daemon's key pair.
    """
    if not listen:
        return ""
    match = _ENDPOINT.fullmatch(listen)
    try:
        address = ipaddress.ip_address((match["v6"] or match["v4"]) if match else "")
    except ValueError:
        return (
            "expected 'tcp://ADDRESS:PORT' with the number of an address of this computer: a loopback "
            "address such as 127.0.0.1, or, for workers on other computers, 0.0.0.0 (all) or one of them"
        )
    port = match["port"] if match else ""
    if port != "*" and int(port) > HIGHEST_PORT:
        return f"expected a port of at most {HIGHEST_PORT}"
    if not address.is_loopback:
        try:
            if keys is None:
                raise ConfigError("make one by: sparse-actors keys new daemon")
            keys.daemon()
        except ConfigError as error:
            return f"other computers reach this address, so that it needs a key: {error}"
    return ""


def check_listen(listen: str, keys: Keys | None) -> None:
    """Raise ConfigError unless a run may listen there."""
    if problem := listen_problem(listen, keys):
        raise ConfigError(f"workers.listen = {listen!r}: {problem}")


def tap_problem(key: str, endpoint: str) -> str:
    """Say why taps may not listen at an endpoint; empty if they may."""
    if not listen_problem(endpoint, None):
        return ""
    return (
        f"taps.{key} = {endpoint!r}: expected a loopback address such as 'tcp://127.0.0.1:7742'. "
        "Taps on other computers reach it through a tunnel (ssh -L)"
    )


def pool_problem(pool: str, own: dict[str, object]) -> str:
    """Say which settings of our own workers stand beside another pool; empty if none does."""
    given = [f"workers.{key} = {value!r}" for key, value in own.items() if value]
    if not pool or not given:
        return ""
    return f"workers.pool = {pool!r}: the cluster has its own workers; leave out {', '.join(given)}"
