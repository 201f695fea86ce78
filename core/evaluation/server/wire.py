"""Messages between the engine and the server: a length of 4 bytes, then one JSON object."""

from __future__ import annotations

import socket
import struct
from json import dumps, loads  # taken now: a program may replace those of the module
from typing import Any

_LENGTH = struct.Struct("!I")
LARGEST = 64 << 20
"""Bytes; a longer message is taken for damage."""


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message; JSON's escapes carry lone surrogates unchanged. Raises OSError when the other end is gone.

    Raises ValueError for more than LARGEST bytes.
    """
    data = dumps(message).encode("ascii")
    if len(data) > LARGEST:
        raise ValueError(f"a message of {len(data)} bytes")
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message; None when the other end has closed.

    Raises:
        OSError: the connection broke, or its time-out passed.
        ValueError: what arrived is no message.
    """
    header = _read(connection, _LENGTH.size)
    if header is None:
        return None
    length = _LENGTH.unpack(header)[0]
    if length > LARGEST:
        raise ValueError(f"a message of {length} bytes")
    data = _read(connection, length)
    if data is None:
        return None
    message = loads(data)
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


def _read(connection: socket.socket, length: int) -> bytes | None:
    data = bytearray()
    while len(data) < length:
        part = connection.recv(min(length - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return bytes(data)
