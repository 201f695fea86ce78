"""Messages between the engine and the server: a length of 4 bytes, then one JSON object.

A program's source, and what came out of it, follow a message as plain bytes whose number it tells: the server wipes
them, and of a decoded message something would stay in its memory.
"""

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
    connection.sendall(pack(message))


def pack(message: dict[str, Any]) -> bytes:
    """A message as it is sent; raises ValueError for more than LARGEST bytes."""
    data = dumps(message).encode("ascii")
    if len(data) > LARGEST:
        raise ValueError(f"a message of {len(data)} bytes")
    return _LENGTH.pack(len(data)) + data


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message; None when the other end has closed.

    Raises:
        OSError: the connection broke, or its time-out passed.
        ValueError: what arrived is no message.
    """
    header = read(connection, _LENGTH.size)
    if header is None:
        return None
    length = _LENGTH.unpack(header)[0]
    if length > LARGEST:
        raise ValueError(f"a message of {length} bytes")
    data = read(connection, length)
    if data is None:
        return None
    message = loads(data)
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


def read(connection: socket.socket, length: int) -> bytearray | None:
    """The next bytes, which are nowhere else in this process's memory; None when the other end has closed."""
    data = bytearray(length)
    missing = memoryview(data)
    while missing:
        count = connection.recv_into(missing)
        if not count:
            return None
        missing = missing[count:]
    return data
