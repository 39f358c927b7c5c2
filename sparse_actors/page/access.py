"""Who may look, and who may give orders: the rules for whatever a browser sends."""

from __future__ import annotations

import functools
import hmac
import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from sparse_actors.errors import ConfigError

TOKEN_VARIABLE = "SPARSE_ACTORS_PAGE_TOKEN"  # noqa: S105 - the name of a variable, not a secret
DEFAULT_LISTEN = "127.0.0.1:8765"
_ADDRESS = re.compile(r"(\[(?P<v6>[0-9a-fA-F:]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})")
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Sent with everything: the page loads nothing from elsewhere, and no other page can show or read it."""


def parse_listen(listen: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; raises ConfigError."""
    match = _ADDRESS.fullmatch(listen)
    try:
        host = str(ipaddress.ip_address((match["v6"] or match["v4"]) if match else ""))
        port = int(match["port"] if match else "")
    except ValueError:
        host, port = "", -1
    if not 0 <= port <= 65535:
        raise ConfigError(
            f"page.listen = {listen!r}: expected the number of an address of this computer and a port, such "
            f"as {DEFAULT_LISTEN!r}; '0.0.0.0:8765' lets other computers look on"
        )
    return host, port


@dataclass(frozen=True, slots=True)
class Access:
    """The rules for a page that listens at an address.

    Anybody who reaches the page may look. Orders are taken from this computer; with a token, from whoever
    shows it, and from nobody else.
    """

    host: str
    token: str = ""

    @property
    def is_open(self) -> bool:
        """Whether other computers can reach the page."""
        return not ipaddress.ip_address(self.host).is_loopback

    @property
    def takes_orders(self) -> bool:
        """Whether orders are taken at all."""
        return bool(self.token) or not self.is_open

    def is_host(self, host: str) -> bool:
        """Whether the page is meant by a `Host` header.

        The name of another site that resolves to this computer (DNS rebinding) is not: that site's scripts
        would count as the page's own. A number cannot be rebound.
        """
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].strip("[]").lower().rstrip(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            own = {"localhost"} if not self.is_open else {"localhost", *_own_names()}
            return name in own
        return True

    def is_own_page(self, headers: Mapping[str, str]) -> bool:
        """Whether a request was made by a script of this page and of no other site."""
        origin, host = headers.get("origin", ""), headers.get("host", "")
        return self.is_host(host) and origin in (f"http://{host}", f"https://{host}")

    def may_order(self, headers: Mapping[str, str]) -> bool:
        """Whether an order is taken: from this page, and with the token if there is one."""
        if not (self.takes_orders and self.is_own_page(headers)):
            return False
        shown = headers.get("authorization", "").removeprefix("Bearer ")
        return not self.token or hmac.compare_digest(shown.encode(), self.token.encode())


@functools.cache
def _own_names() -> set[str]:
    """Return the names of this computer; asking for them may take seconds."""
    return {socket.gethostname().lower(), socket.getfqdn().lower()}
