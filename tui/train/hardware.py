"""What the machine says of an engine at work: its process, and the GPU it is on. Sampled once a second, in a thread.

NVML and psutil are imported when they are first needed, and nothing here raises: what cannot be read is None, because a
missing driver must not disturb the watching of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Reading:
    """One sample; None for what is unknown, or is not there."""

    process_memory: int | None = None
    """Resident bytes of the engine."""
    process_cpu: float | None = None
    """Percent of one core since the sample before: 180 is almost two."""
    machine_memory: float | None = None
    """Share of the machine's memory that is in use."""
    gpu_utilisation: int | None = None
    """Percent of the last second in which a kernel ran."""
    gpu_temperature: int | None = None
    """Degrees Celsius."""
    gpu_power: float | None = None
    """Watts."""
    gpu_power_limit: float | None = None
    gpu_memory: float | None = None
    """Share of the device's memory that is in use, by whomever."""

    @property
    def has_gpu(self) -> bool:
        """Whether anything is known of a GPU."""
        known = (self.gpu_utilisation, self.gpu_temperature, self.gpu_power, self.gpu_memory)
        return any(value is not None for value in known)

    @property
    def gpu_words(self) -> str:
        """"71 % 64°C 182/450 W": what is known of the GPU, short enough for 80 columns; "" for nothing."""
        parts = []
        if self.gpu_utilisation is not None:
            parts.append(f"{self.gpu_utilisation} %")
        if self.gpu_temperature is not None:
            parts.append(f"{self.gpu_temperature}°C")
        if self.gpu_power is not None:
            limit = f"/{self.gpu_power_limit:.0f}" if self.gpu_power_limit else ""
            parts.append(f"{self.gpu_power:.0f}{limit} W")
        return " ".join(parts)


class Sampler:
    """Reads one engine's figures, again and again. CPU needs two samples, so the first one has none.

    Args:
        pid: the engine's process, on this machine.
        device: where it trains, as ModelLoaded says: "cpu", "cuda:0". Without "cuda" no driver is asked.
    """

    def __init__(self, pid: int | None, device: str) -> None:
        self.pid = pid
        self.device = device
        self._process: Any = None
        self._gpu: Any = None
        self._nvml: Any = None
        self._sought = False
        self.busy = False
        """Whether a sample is being taken: a driver that hangs is not asked again."""

    def sample(self) -> Reading:
        """The figures of this moment."""
        self.busy = True
        try:
            return self._sample()
        finally:
            self.busy = False

    def _sample(self) -> Reading:
        memory, cpu = _known(self._of_process) or (None, None)
        machine = _known(_machine_memory)
        if not self._sought:
            self._sought = True  # once: a driver that is missing now is missing in a second, too
            _known(self._find_gpu)
        if self._gpu is None:
            return Reading(memory, cpu, machine)
        nvml, gpu = self._nvml, self._gpu
        limit = _known(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000)
        return Reading(
            memory, cpu, machine,
            _known(lambda: int(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)),
            _known(lambda: int(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU))),
            _known(lambda: float(nvml.nvmlDeviceGetPowerUsage(gpu) / 1000)), limit,
            _known(lambda: _share(nvml.nvmlDeviceGetMemoryInfo(gpu))),
        )

    def close(self) -> None:
        """Let go of the driver."""
        if self._nvml is not None:
            _known(self._nvml.nvmlShutdown)
        self._nvml = self._gpu = None

    def _of_process(self) -> tuple[int, float | None]:
        import psutil  # type: ignore[import-untyped]

        if self._process is None:
            self._process = psutil.Process(self.pid) if self.pid else None
            if self._process is None:
                raise ProcessLookupError
            self._process.cpu_percent()  # the beginning of the first interval
            return int(self._process.memory_info().rss), None
        with self._process.oneshot():
            return int(self._process.memory_info().rss), float(self._process.cpu_percent())

    def _find_gpu(self) -> None:
        if not self.device.startswith("cuda"):
            return
        import pynvml  # type: ignore[import-untyped]

        pynvml.nvmlInit()
        self._nvml = pynvml
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        self._gpu = next((gpu for gpu in handles if self._works_on(gpu)), None)
        if self._gpu is None:  # in a container the driver knows other process numbers
            self._gpu = self._by_number(handles)

    def _works_on(self, gpu: Any) -> bool:
        processes = _known(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu)) or ()
        return any(process.pid == self.pid for process in processes)

    def _by_number(self, handles: list[Any]) -> Any:
        """The device with the engine's number, counted as CUDA_VISIBLE_DEVICES has the engine count."""
        number = int(self.device.partition(":")[2] or 0)
        listed = _known(lambda: str(self._process.environ().get("CUDA_VISIBLE_DEVICES", ""))) or ""
        names = [name.strip() for name in listed.split(",") if name.strip()]
        if number < len(names) and not names[number].isdigit():
            return self._nvml.nvmlDeviceGetHandleByUUID(names[number])
        return handles[int(names[number]) if number < len(names) else number]


def _known(read: Callable[[], Value]) -> Value | None:
    """What `read` gives; None where it fails. Drivers raise errors of their own for each thing that a card lacks."""
    try:
        return read()
    except Exception:
        return None


def _machine_memory() -> float:
    import psutil

    return float(psutil.virtual_memory().percent) / 100


def _share(memory: Any) -> float:
    return float(memory.used / memory.total)
