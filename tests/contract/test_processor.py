"""What /proc/cpuinfo says of a processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.contract import processor


@pytest.mark.parametrize(("told", "expected"), [
    ("processor : 0\nflags\t\t: fpu avx avx2 fma\n\nprocessor : 1\nflags : avx2\n", True),
    ("flags : avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni\n", False),
    ("flags : avx2 avx512f avx512cd\n", True),
    ("flags : fpu sse2\n", False),
    ("Features : fp asimd sve\n", False),
    ("", False),
    (None, False),
])
def test_whether_it_has_avx2_at_most(
    told: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    if told is not None:
        (tmp_path / "cpuinfo").write_text(told)
    assert processor.avx2_at_most.__wrapped__() is expected
