"""What passes between a candidate and its tests: plain data as JSON, and nothing that could act.

An object of a class of the candidate's own would bring its own idea of `==` into the tests. So an instance of a
built-in type, or of a subclass, travels as the built-in value that it holds; iterators travel item by item; anything
else arrives as an `Opaque`, which equals nothing but itself.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

_LARGEST_JSON_INT = 1 << 1000
"""Beyond it an integer travels in hexadecimal, which takes linear time and knows no limit of digits."""
_VIEWS = {type(getattr(kind(), name)()): name for kind in (dict, OrderedDict) for name in ("keys", "values", "items")}
_ARRAY_TYPES = re.compile(r"[<>|](b1|[iu][1248]|f[248]|c8|c16|U\d+)")


class Malformed(Exception):
    """Data that no `encode` makes."""


class Opaque:
    """In the tests: an object that stays with the candidate; it can only be handed back."""

    def __init__(self, handle: int, name: str) -> None:
        self.handle = handle
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name} object of the candidate>"


class RemoteIterator:
    """In the tests: an iterator that stays with the candidate, `fetch` brings its next item."""

    def __init__(self, handle: int, fetch: Callable[[int], Any]) -> None:
        self.handle = handle
        self._fetch = fetch

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        return self._fetch(self.handle)


def encode(value: Any, keep: Callable[[Any], int]) -> Any:
    """The JSON form of a value.

    Args:
        keep: takes an object that cannot travel, gives its handle; raises TypeError where nothing is kept.
    """
    if value is None or value is True or value is False:
        return value
    kind = type(value)  # not `isinstance`, which asks the value
    if issubclass(kind, str):
        return value if kind is str else str.__str__(value)
    if issubclass(kind, int):
        plain = value if kind is int else int.__add__(value, 0)
        return plain if -_LARGEST_JSON_INT < plain < _LARGEST_JSON_INT else {"int": hex(plain)}
    if issubclass(kind, float):
        return value if kind is float else float.__float__(value)
    if issubclass(kind, list):
        return [encode(item, keep) for item in list.__iter__(value)]
    if issubclass(kind, tuple):
        return {"tuple": [encode(item, keep) for item in tuple.__iter__(value)]}
    if issubclass(kind, dict):
        name = "counter" if issubclass(kind, Counter) else "ordered" if issubclass(kind, OrderedDict) else "dict"
        return {name: [[encode(key, keep), encode(item, keep)] for key, item in dict.items(value)]}
    for base, name in ((set, "set"), (frozenset, "frozenset"), (deque, "deque")):
        if issubclass(kind, base):
            return {name: [encode(item, keep) for item in base.__iter__(value)]}
    return _encode_rare(value, kind, keep)


def _encode_rare(value: Any, kind: type, keep: Callable[[Any], int]) -> Any:
    if issubclass(kind, complex):
        plain = complex.__pos__(value)
        return {"complex": [plain.real, plain.imag]}
    if issubclass(kind, bytes | bytearray):
        return {"bytes" if issubclass(kind, bytes) else "bytearray": bytes(value).hex()}
    if kind is range:
        return {"range": [encode(part, keep) for part in (value.start, value.stop, value.step)]}
    if kind is Decimal or kind is Fraction:
        return {kind.__name__.lower(): str(value)}
    if kind in _VIEWS:
        return {_VIEWS[kind]: encode(list(value), keep)}
    if kind in (Opaque, RemoteIterator):
        return {"handle": value.handle}
    if kind.__module__ == "numpy" and _ARRAY_TYPES.fullmatch(getattr(getattr(value, "dtype", None), "str", "")):
        plain = encode(value.tolist(), keep)
        return {"array": [plain, value.dtype.str, value.shape]} if value.ndim else plain
    return {"iterator" if issubclass(kind, Iterator) else "opaque": [keep(value), str(kind.__name__)[:100]]}


def decode(data: Any, resolve: Callable[[str, Any], Any]) -> Any:
    """The value of a JSON form.

    Args:
        resolve: gives the value of what stays in the other process, from its kind and content.

    Raises:
        Malformed: `encode` makes no such thing.
        RecursionError: it nests too deeply.
    """
    try:
        return _decode(data, resolve)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise Malformed(str(error)) from None


def _decode(data: Any, resolve: Callable[[str, Any], Any]) -> Any:
    if isinstance(data, list):
        return [_decode(item, resolve) for item in data]
    if not isinstance(data, dict):
        return data
    [(kind, content)] = data.items()
    if kind in _CONTAINERS:
        return _CONTAINERS[kind](_decode(item, resolve) for item in content)
    if kind in _MAPPINGS:
        return _MAPPINGS[kind]((_decode(key, resolve), _decode(item, resolve)) for key, item in content)
    if kind in _SCALARS:
        return _SCALARS[kind](content)
    if kind == "array":
        return _array(_decode(content[0], resolve), *content[1:])
    return resolve(kind, content)


def _array(items: Any, dtype: str, shape: list[int]) -> Any:
    import numpy  # only where a candidate returns one

    if not _ARRAY_TYPES.fullmatch(dtype):
        raise ValueError(dtype)
    return numpy.array(items, dtype=dtype).reshape(shape)


_CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque, "range": lambda parts: range(*parts),
    "keys": lambda items: dict.fromkeys(items).keys(), "values": lambda items: dict(enumerate(items)).values(),
    "items": lambda items: dict(items).items(),
}
_MAPPINGS: dict[str, Callable[[Any], Any]] = {
    "dict": dict, "ordered": OrderedDict, "counter": lambda items: Counter(dict(items)),
}
_SCALARS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16), "complex": lambda parts: complex(*parts), "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex, "decimal": Decimal, "fraction": Fraction,
}


def take_over(old: Any, new: Any) -> None:
    """Give a mutable container the content that a call left in its copy."""
    if isinstance(old, list | bytearray):
        old[:] = new
    elif isinstance(old, dict | set | deque):
        old.clear()
        (old.extend if isinstance(old, deque) else old.update)(new)


MUTABLE = (list, bytearray, dict, set, deque)
