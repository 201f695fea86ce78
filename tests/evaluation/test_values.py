"""What passes between candidate and tests arrives equal, and can do nothing."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest

from core.evaluation.server.values import Malformed, Opaque, RemoteIterator, decode, encode

Point = namedtuple("Point", "x y")


class Colour(IntEnum):
    RED = 1


class Liar(str):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class Anything:
    def __eq__(self, other: object) -> bool:
        return True


def across(value: Any) -> Any:
    """A value after its way through JSON."""
    return decode(json.loads(json.dumps(encode(value, lambda kept: 7))), resolve)


def resolve(kind: str, content: Any) -> Any:
    kinds = {"opaque": lambda: Opaque(*content), "iterator": lambda: RemoteIterator(content[0], lambda handle: handle)}
    return kinds[kind]()


@pytest.mark.parametrize("value", [
    None, True, False, 0, -1, 10**30, 2**5000, -(10**400), 0.1, -0.0, math.inf, 1e-320, 1 + 2j, "", "ü\x00\ud800",
    b"\xff", bytearray(b"x"), [], [1, [2.5, "a"]], (), (1,), (1, (2,)), {}, {1: "a", (1, 2): [3]}, {"tuple": [1]},
    {1, 2}, frozenset({1}), range(2, 9, 3), Counter("aab"), OrderedDict([(2, 1), (1, 2)]), deque([1, 2]),
    Decimal("1.10"), Fraction(1, 3), {1: 2}.keys(), {1: 2}.items(),
], ids=repr)
def test_plain_data_arrives_as_it_was(value: Any) -> None:
    arrived = across(value)
    assert arrived == value and type(arrived) is type(value)
    assert repr(arrived) == repr(value) or isinstance(value, set | frozenset)


def test_nan_arrives() -> None:
    assert math.isnan(across(math.nan))


@pytest.mark.parametrize("value, plain", [
    (Colour.RED, 1), (Point(1, 2), (1, 2)), (defaultdict(int, a=1), {"a": 1}), (Liar("x"), "x"),
    (OrderedDict(a=1).keys(), {"a": 1}.keys()),
], ids=["IntEnum", "namedtuple", "defaultdict", "str", "keys"])
def test_a_subclass_arrives_as_what_it_holds(value: Any, plain: Any) -> None:
    arrived = across(value)
    assert (arrived, type(arrived)) == (plain, type(plain))


def test_numpy_arrives() -> None:
    numpy = pytest.importorskip("numpy")
    assert across(numpy.float64(0.5)) == 0.5 and across(numpy.bool_(True)) is True
    assert across(numpy.array([[1, 2]])).tolist() == [[1, 2]]
    assert across(numpy.zeros((0, 3))).shape == (0, 3) and str(across(numpy.float64(-0.0))) == "-0.0"


def test_what_numpy_has_no_plain_data_for_stays_and_is_not_malformed() -> None:
    numpy = pytest.importorskip("numpy")
    for value in (numpy.array([1, None]), numpy.array(["2020-01-01"], "M8[D]"), numpy.longdouble(1), numpy.sum):
        assert isinstance(across(value), Opaque)


def test_an_object_of_its_own_class_equals_nothing() -> None:
    arrived = across(Anything())
    assert isinstance(arrived, Opaque) and arrived != 42
    assert repr(arrived) == "<Anything object of the candidate>"


def test_iterators_stay_and_are_fetched_from() -> None:
    arrived = across(iter([1]))
    assert isinstance(arrived, RemoteIterator) and next(arrived) == 7 and arrived != [1]


@pytest.mark.parametrize("data", [
    {}, {"int": 1, "tuple": []}, {"unknown": 1}, {"int": "zz"}, {"tuple": 3}, {"set": [[]]}, {"dict": [[1]]},
    {"dict": [[[], 1]]}, {"bytes": "x"}, {"range": [1, 2, 0]}, {"complex": 1}, {"decimal": "x"}, {"fraction": "1/0"},
    {"array": [[1], "|O", [1]]}, {"array": [[1], "<i8", [2]]}, {"array": [[1]]}, [{"opaque": []}],
], ids=json.dumps)
def test_what_no_one_encodes_is_malformed(data: Any) -> None:
    with pytest.raises(Malformed):
        decode(data, resolve)
