"""Products with laid-out weights are those of torch's own linear layer."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, silu

from core.model import onednn

pytestmark = pytest.mark.skipif(not onednn.available(), reason="this torch has no oneDNN")


@pytest.mark.parametrize("rows", [1, 32])
@pytest.mark.parametrize("shape", [(1, 48), (40, 48), (5, 1, 48), (1, 70, 48)])
def test_same_sums(shape: tuple[int, ...], rows: int) -> None:
    weight, bias, inputs = torch.randn(33, 48), torch.randn(33), torch.randn(shape)
    laid_out = onednn.lay_out(weight.requires_grad_(), rows)
    weight = weight.detach()
    torch.testing.assert_close(onednn.product(inputs, laid_out), linear(inputs, weight))
    torch.testing.assert_close(onednn.product(inputs, laid_out, bias), linear(inputs, weight, bias))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 5, 70])
def test_what_follows_a_product_is_taken_into_it(rows: int, bias: bool) -> None:
    layer = torch.nn.Linear(48, 33, bias=bias).requires_grad_(False)
    x, other = torch.randn(rows, 48), torch.randn(rows, 33)
    laid_out, kept = onednn.LaidOut.of(layer), other.clone()
    torch.testing.assert_close(laid_out(x), layer(x))
    torch.testing.assert_close(laid_out.silu(x), silu(layer(x)))
    torch.testing.assert_close(laid_out.added(x, other), layer(x) + other)
    torch.testing.assert_close(laid_out.multiplied(x, other), layer(x) * other)
    assert torch.equal(other, kept)


def test_neither_input_nor_weight_need_be_contiguous() -> None:
    weight, inputs = torch.randn(48, 33).t(), torch.randn(48, 40).t()
    laid_out = onednn.lay_out(weight, 32)
    torch.testing.assert_close(onednn.product(inputs, laid_out), linear(inputs, weight))


def test_what_was_laid_out_is_a_copy() -> None:
    weight, inputs = torch.randn(33, 48), torch.randn(2, 48)
    expected, laid_out = linear(inputs, weight), onednn.lay_out(weight, 32)
    weight.zero_()
    torch.testing.assert_close(onednn.product(inputs, laid_out), expected)


def test_it_is_not_used_where_an_operator_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not onednn.available()
