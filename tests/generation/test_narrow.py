"""Linear layers over few rows: the same results, and only while asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.generation.narrow import float32_cpu_linears, narrow_products


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 48), (5, 1, 48), (1, 5, 48)])
def test_same_results(two_threads: None, shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(48, 33, bias=bias)
    inputs = torch.randn(shape)
    expected = layer(inputs)
    with narrow_products([layer], 5):
        found = layer(inputs)
        strided = layer(inputs.transpose(0, -2).contiguous().transpose(0, -2))
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(strided, expected)
    assert torch.equal(layer(inputs), expected)


def test_only_where_it_pays(two_threads: None) -> None:
    layer = nn.Linear(8, 8)
    for rows, replaced in ((1, False), (2, True), (64, True), (65, False)):
        with narrow_products([layer], rows):
            assert ("forward" in vars(layer)) == replaced
    assert "forward" not in vars(layer)


def test_layers_that_do_more_are_left_alone(two_threads: None) -> None:
    class Adapted(nn.Linear):
        pass

    plain, patched = nn.Linear(4, 4), nn.Linear(4, 4)
    model = nn.Sequential(plain, Adapted(4, 4), nn.Linear(4, 4, dtype=torch.bfloat16), patched)
    patched.forward = lambda inputs: inputs + 1  # type: ignore[method-assign]
    assert float32_cpu_linears(model) == [plain, patched]
    with narrow_products(float32_cpu_linears(model), 3):
        assert patched(torch.zeros(3, 4)).tolist() == torch.ones(3, 4).tolist()
    assert "forward" in vars(patched)
