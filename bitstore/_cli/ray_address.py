"""Connecting to a Ray cluster: an address that cannot be right is refused within seconds, for Ray waits minutes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Generator

from bitstore._cli.terminal import refuse

__all__ = ["connected"]

_REACH = 5.0  # seconds to connect to the head of a cluster, and for its first answer
# The connection preface of an HTTP/2 client, and a SETTINGS frame with no setting (RFC 9113, 3.4 and 6.5). A head
# speaks gRPC, and so answers with a SETTINGS frame of its own.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4  # the type of the frame, in the fourth byte of its head


@contextlib.contextmanager
def connected(address: str, option: str) -> Generator[None, None, None]:
    """While entered, this process is connected to the cluster. Refuses an address at which there is none.

    Parameters
    ----------
    address
        `HOST:PORT` of the head; `auto`: $RAY_ADDRESS, or the cluster of this machine; `local`: a new one.
    option
        What messages call it, such as `--ray auto`.
    """
    _check(address, option)
    try:
        import pandas  # noqa: F401  # which the extra brings along
        import ray
    except ImportError as error:
        refuse(f"{option}: {error}; pip install 'epic-bitstore[ray]'")
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # whatever Ray finds wrong with the address
        refuse(f"{option}: {error}")
    finally:
        # Ray's own handler raises SystemExit, wherever the process is.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


def _check(address: str, option: str) -> None:
    if not address:
        refuse(f"{option}: the address is empty: give the head's, as in HOST:6379, or auto")
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    scheme, found, _ = address.partition("://")
    if found and scheme == "ray":
        refuse(f"{option}: node pools do not work over Ray Client: give the head's own address, as in HOST:6379")
    if found:
        refuse(f"{option}: {scheme}:// is how Ray's dashboard is reached: give the head's address, as in HOST:6379")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        return  # auto and local, or what Ray refuses at once
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _REACH) as connection:
            speaks = _uses_tls() or _first_frame(connection)[3] == _SETTINGS
    except (OSError, OverflowError, UnicodeError) as error:
        refuse(f"{option}: nothing answers at {address} ({error}): give the head's address, as in HOST:6379")
    if not speaks:
        refuse(
            f"{option}: what answers at {address} is no head of a Ray cluster: give the head's address, as in HOST:6379"
        )


def _first_frame(connection: socket.socket) -> bytes:
    """The head of the first frame that the other side sends: 9 bytes, or what it sent before it ended."""
    deadline = time.monotonic() + _REACH
    connection.sendall(_HELLO)
    found = b""
    while len(found) < 9:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        if not (more := connection.recv(9 - len(found))):
            return found.ljust(9, b"\0")
        found += more
    return found


def _uses_tls() -> bool:
    """Whether Ray speaks TLS (https://docs.ray.io/en/latest/ray-core/configure.html#tls-authentication)."""
    return os.environ.get("RAY_USE_TLS", "0") not in ("", "0")
