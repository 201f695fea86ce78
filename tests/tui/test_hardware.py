"""Looking at the machine: with a card, without one, and with a driver that fails."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from tests.tui.fake_run import make_run, training
from tui.follower import Scene
from tui.run_view import RunView, advance
from tui.train.figures import now_panel
from tui.train.hardware import Reading, Sampler


class NoDriver(Exception):
    """NVML's errors are no OSErrors."""


class FakeNvml(ModuleType):
    """Two cards; the engine is on the second one."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self, broken: tuple[str, ...] = (), pids: tuple[int, ...] = (os.getpid(),)) -> None:
        super().__init__("pynvml")
        self.broken, self.pids, self.asked = broken, pids, 0

    def __getattribute__(self, name: str) -> object:
        if name.startswith("nvml") and name in super().__getattribute__("broken"):
            raise NoDriver(name)
        return super().__getattribute__(name)

    def nvmlInit(self) -> None:
        self.asked += 1

    def nvmlShutdown(self) -> None:
        self.asked = -1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid) for pid in self.pids] if gpu == 1 else []

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=71 if gpu == 1 else 3)

    def nvmlDeviceGetTemperature(self, gpu: int, kind: int) -> int:
        return 64

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:
        return 182_400

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: int) -> int:
        return 450_000

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(used=12, total=24)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_a_card_and_the_process(nvml: FakeNvml) -> None:
    sampler = Sampler(os.getpid(), "cuda:0")
    first, second = sampler.sample(), sampler.sample()
    assert first.gpu_words == "71 % 64°C 182/450 W" and first.gpu_memory == 0.5
    assert first.process_cpu is None and second.process_cpu is not None
    assert second.process_memory is not None and second.process_memory > 10**6
    assert second.machine_memory is not None and 0 < second.machine_memory < 1
    assert nvml.asked == 1  # initialised once
    sampler.close()
    assert nvml.asked == -1


def test_in_a_container_the_number_decides(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.pids = (99_999_999,)
    assert Sampler(os.getpid(), "cuda:1").sample().gpu_utilisation == 71
    assert Sampler(os.getpid(), "cuda:0").sample().gpu_utilisation == 3
    assert Sampler(os.getpid(), "cuda:7").sample().gpu_utilisation is None


def test_a_card_that_lacks_something(nvml: FakeNvml) -> None:
    nvml.broken = ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetUtilizationRates")
    reading = Sampler(os.getpid(), "cuda:0").sample()
    assert reading.gpu_words == "64°C" and reading.has_gpu


def test_a_driver_that_fails_is_no_card(nvml: FakeNvml) -> None:
    nvml.broken = ("nvmlInit",)
    sampler = Sampler(os.getpid(), "cuda:0")
    assert not sampler.sample().has_gpu and sampler.sample().process_memory


def test_no_driver_is_asked_for_a_run_on_the_cpu(nvml: FakeNvml) -> None:
    reading = Sampler(os.getpid(), "cpu").sample()
    assert nvml.asked == 0 and not reading.has_gpu and reading.process_memory


@pytest.mark.parametrize("module", ["pynvml", "psutil"])
def test_a_missing_module_raises_nothing(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert not Sampler(os.getpid(), "cuda:0").sample().has_gpu


@pytest.mark.parametrize("pid", [None, 2**22 + 1])
def test_a_process_that_is_not_there(pid: int | None) -> None:
    assert Sampler(pid, "cpu").sample().process_memory is None


def test_the_figures_say_what_is_known() -> None:
    view = advance(RunView(), training("x", steps=9, device="cuda"))
    reading = Reading(3_100_000_000, 180.4, 0.4, 71, 64, 182.4, 450.0, 0.5)
    shown = now_panel(Scene(view=view), 60, 30, reading=reading).plain
    assert "71 % 64°C 182/450 W" in shown and "3.1 GB, CPU 180 %" in shown
    busy = Reading(gpu_utilisation=100, gpu_temperature=64, gpu_power=682.4, gpu_power_limit=700.0)
    assert "100 % 64°C 682/700 W" in now_panel(Scene(view=view), 36, 30, reading=busy).plain  # as at 80 columns
    assert "°C" not in now_panel(Scene(view=view), 60, 30, reading=Reading(10**9)).plain
    assert "CPU" not in now_panel(Scene(view=view), 60, 30).plain


def test_make_run_is_of_this_process(tmp_path: os.PathLike[str]) -> None:
    from pathlib import Path

    from tui.engine import RunLink

    alive = make_run(Path(tmp_path) / "a", training("x", steps=2), state="running", alive=True, count=2)
    over = make_run(Path(tmp_path) / "b", training("x", steps=2), count=2)
    assert RunLink(alive).condition().pid == os.getpid() and RunLink(over).condition().pid is None
