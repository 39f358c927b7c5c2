"""Encryption and admission of sockets that other computers reach: CURVE, with ZAP enforced.

CURVE alone encrypts but lets in whoever knows the daemon's public key. The gate answers the question
"who is that?" (ZAP, https://rfc.zeromq.org/spec/27) for all guarded sockets of one context. A guarded
socket refuses everybody when nobody answers.
"""

from __future__ import annotations

import threading

import zmq

from .keys import SERVICES, KeyPair, Keys, Service

POLL_MS = 50
_ZAP = "inproc://zeromq.zap.01"


class Gate:
    """Lets in who is on the list of a service, for every guarded socket of a context.

    What then comes in on such a socket tells its sender: `frame.get("User-Id")` is the public key in
    hexadecimal digits. A list that changes holds for the next connection; who is connected already
    has to be looked up again by whoever reads.

    Parameters
    ----------
    context
        Has one gate at most.
    keys
        Holds the daemon's pair and the lists.

    Raises
    ------
    ConfigError
        There is no pair of the daemon, or others can read it.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        self._keys = keys
        self._pair = keys.daemon()
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ZAP)
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="gate", daemon=True)
        self._thread.start()

    def guard(self, socket: zmq.Socket[bytes], service: Service) -> None:
        """Encrypt what the socket binds from now on, and let in the listed only."""
        socket.curve_server = True
        socket.curve_publickey = self._pair.public
        socket.curve_secretkey = self._pair.secret
        socket.zap_domain = service.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def close(self) -> None:
        """Stop answering: guarded sockets that are still open let nobody in."""
        self._is_closing.set()
        self._thread.join()

    def _serve(self) -> None:
        with self._socket:
            while not self._is_closing.is_set():
                if self._socket.poll(POLL_MS):
                    self._socket.send_multipart(self._answer(self._socket.recv_multipart()))

    def _answer(self, question: list[bytes]) -> list[bytes]:
        match question:
            case [b"1.0", request, domain, _, _, b"CURVE", public]:
                for service in SERVICES:
                    if service.encode() == domain and public in self._keys.allowed(service):
                        return [b"1.0", request, b"200", b"OK", public.hex().encode(), b""]
            case [_, request, *_]:
                pass
            case _:
                request = b""
        return [b"1.0", request, b"400", b"not allowed", b"", b""]


def present(socket: zmq.Socket[bytes], pair: KeyPair) -> None:
    """Have a socket show its key to the daemon, and talk to that daemon only."""
    socket.curve_publickey = pair.public
    socket.curve_secretkey = pair.secret
    socket.curve_serverkey = pair.daemon
