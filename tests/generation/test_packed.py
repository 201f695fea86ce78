"""Linear layers with weights laid out once: the same results, and only while asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.generation.packed import PackedLinears


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (5, 1, 48), (1, 70, 48)])
def test_same_results(two_threads: None, shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(48, 33, bias=bias).requires_grad_(False)
    inputs = torch.randn(shape)
    expected = layer(inputs)
    packed = PackedLinears(layer.modules())
    with torch.inference_mode(), packed.at_work():
        assert "forward" in vars(layer)
        found = layer(inputs)
        strided = layer(inputs.transpose(0, -2).contiguous().transpose(0, -2))
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(strided, expected)
    assert "forward" not in vars(layer) and torch.equal(layer(inputs), expected)


def test_layers_that_do_more_are_left_alone() -> None:
    class Adapted(nn.Linear):
        pass

    plain, patched = nn.Linear(4, 4), nn.Linear(4, 4)
    model = nn.Sequential(plain, Adapted(4, 4), nn.Linear(4, 4, dtype=torch.bfloat16), patched).requires_grad_(False)
    packed = PackedLinears(model.modules())
    patched.forward = lambda inputs: inputs + 1  # type: ignore[method-assign]
    with torch.inference_mode(), packed.at_work():
        assert ["forward" in vars(layer) for layer in model] == [True, False, False, True]
        assert patched(torch.zeros(3, 4)).tolist() == torch.ones(3, 4).tolist()
    assert ["forward" in vars(layer) for layer in model] == [False, False, False, True]


def test_nothing_is_copied_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(8, 8).requires_grad_(False)
    monkeypatch.setattr("core.generation.packed.free_bytes", lambda _device: 2 * layer.weight.nbytes - 1)
    with PackedLinears(layer.modules()).at_work():
        assert "forward" not in vars(layer)
