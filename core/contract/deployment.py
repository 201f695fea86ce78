"""How an exported folder is served: for each engine the command, the file that runs it, and how to ask it.

All of them serve the OpenAI-compatible API, with the folder's name as the model's name. What is said of vLLM is its own
documentation's: `vllm serve` and its image's arguments (docs.vllm.ai, "OpenAI-Compatible Server", "Using Docker").
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from core.contract.config import InferenceSettings
from core.contract.errors import CheckpointError, UsageError
from core.contract.exports import Manifest
from core.contract.files import write_whole

Engine = Literal["vllm", "compose", "transformers"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
FOLDER = "serve"
"""Where the files go, within the exported folder."""
HOST, PORT = "127.0.0.1", 8000

VLLM_NEEDS = "pip install 'vllm>=0.19.1'"
"""The first that takes transformers 5, whose form the folder's config.json has (vllm-project/vllm#40146)."""
VLLM_IMAGE = "vllm/vllm-openai:v0.30.0"
"""For drivers of CUDA 13; the tag with -cu129 behind it is for those of CUDA 12."""
_INSIDE = 8000
"""The port in the container."""
_EXAMPLE = 'def add(a, b):\n    """Give the sum of a and b."""\n'


class Recipe(BaseModel):
    """One way to serve a folder."""

    model_config = ConfigDict(frozen=True)
    engine: Engine
    needs: str
    """What has to be installed, as a command where there is one."""
    command: str
    """A line for a POSIX shell."""
    file: str
    """The name of the file that runs it, in serve/."""
    text: str
    """What is in that file."""
    executable: bool
    tested: bool
    """Whether softtune's tests run it, and compare what it completes."""


def model_name(folder: Path) -> str:
    """What the model is called by whoever asks for it.

    Raises:
        UsageError: it is a name that an engine would read otherwise.
    """
    name = folder.resolve().name
    if not name or "@" in name or name.startswith("-"):
        raise UsageError(f"{folder}: its name would be the model's, and engines read {name or 'that'!r} otherwise",
                         "rename it: letters, digits, dot, dash and underscore are safe")
    return name


def recipes(folder: Path, manifest: Manifest, host: str = HOST, port: int = PORT) -> list[Recipe]:
    """The ways to serve a folder, one an engine.

    Args:
        host: the address to listen on.

    Raises:
        CheckpointError: no engine serves its format.
        UsageError: its name, the host or the port cannot be used.
    """
    if manifest.format != "merged":
        raise CheckpointError(
            f"{folder} is a peft adapter, which neither vLLM (since 0.10) nor transformers serve puts before a prompt",
            "serve the same soft prompt inside its model: softtune export CHECKPOINT --format merged DIR",
        )
    if not 1 <= port <= 65535:
        raise UsageError(f"--port: found {port}", "it is a number from 1 to 65535")
    if not host or host.startswith("-") or any(character.isspace() or character in "[]/" for character in host):
        raise UsageError(f"--host: found {host!r}", "it is an address or a name of this machine, as 127.0.0.1 or ::1")
    name, place = model_name(folder), folder.resolve()
    listen = ["--host", host, "--port", str(port)]
    # The weights' own type: by default vLLM makes 16 bits of 32. And not the defaults of generation_config.json: what a
    # request leaves open, such as a repetition penalty, softtune has at its neutral value.
    choices = ["--dtype", manifest.dtype or "auto", "--generation-config", "vllm"]
    vllm = ["vllm", "serve", str(place), "--served-model-name", name, *listen, *choices]
    transformers = ["transformers", "serve", name, *listen]
    file = place / FOLDER / "compose.yaml"
    return [
        Recipe(engine="vllm", needs=VLLM_NEEDS, command=shlex.join(vllm), file="vllm.sh", executable=True, tested=False,
               text=_script(VLLM_NEEDS, f'vllm serve "$folder" --served-model-name "${{folder##*/}}" '
                                        f'{shlex.join([*listen, *choices])}')),
        Recipe(engine="compose", needs="Docker with the NVIDIA container toolkit", file=file.name, executable=False,
               command=f"docker compose -f {shlex.quote(str(file))} up", text=_compose(name, choices, host, port),
               tested=False),
        # It knows a model by the very words that it was started with, so they are the name, as seen from beside it.
        Recipe(engine="transformers", needs="pip install 'softtune[serving]'", file="transformers.sh", executable=True,
               command=f"(cd {shlex.quote(str(place.parent))} && {shlex.join(transformers)})", tested=True,
               text=_script("pip install 'softtune[serving]'", 'cd "$folder/.."', "transformers serve "
                            f'"${{folder##*/}}" {shlex.join(listen)}')),
    ]


def base_of(host: str, port: int) -> str:
    """The address to ask at, from this machine."""
    reached = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def question(folder: Path, manifest: Manifest, host: str = HOST, port: int = PORT) -> str:
    """A curl line that has a function completed greedily, as long and up to where the soft prompt's settings say."""
    body: dict[str, Any] = {"model": model_name(folder), "prompt": prompt_of(manifest, _EXAMPLE), "temperature": 0}
    with contextlib.suppress(ValidationError):
        settings = InferenceSettings.model_validate(manifest.config.get("inference", {}))
        body |= {"max_tokens": settings.max_new_tokens, "stop": settings.stop_sequences}
    return shlex.join(["curl", "-s", f"{base_of(host, port)}/v1/completions", "-H", "Content-Type: application/json",
                       "-d", json.dumps(body)])


def prompt_of(manifest: Manifest, problem: str) -> str:
    """The text to send for a problem: the problem, or all that no tokenizer puts around it."""
    if manifest.auto_prepend:
        return problem
    return f"{manifest.literal_prefix or ''}{problem}{manifest.literal_suffix or ''}"


def notes(manifest: Manifest, host: str = HOST) -> Iterator[str]:
    """What whoever serves it should know."""
    if not manifest.auto_prepend:
        yield f"every prompt must begin with {manifest.literal_prefix!r}" + (
            f" and end with {manifest.literal_suffix!r}" if manifest.literal_suffix else "")
    if not manifest.verified_problems:
        yield "its completions were not compared with softtune's own when it was exported"
    if host in ("127.0.0.1", "localhost", "::1"):
        yield f"{host} is this machine alone; --host 0.0.0.0 lets others ask too"
    else:
        yield f"{host} lets others ask too: vllm takes --api-key KEY, transformers serve has no key"


def write_recipes(folder: Path, made: Sequence[Recipe]) -> list[Path]:
    """Write the files into serve/; those that are there already with the same text stay. The files, in order.

    Raises:
        UsageError: one is there with another text; nothing was written.
        OSError: they cannot be written; nothing of them stays.
    """
    files = {folder / FOLDER / recipe.file: recipe for recipe in made}
    if os.path.lexists(folder / FOLDER) and not (folder / FOLDER).is_dir():
        raise UsageError(f"{folder / FOLDER} is no folder", "move it away, or remove it")
    for file, recipe in files.items():
        if os.path.lexists(file) and not (file.is_file() and file.read_bytes() == recipe.text.encode()):
            raise UsageError(f"{file} is there already, and says something else", "move it away, or remove it")
    new = [file for file in files if not file.exists()]
    try:
        for file in new:
            write_whole(file, files[file].text)
            if files[file].executable:
                mode = file.stat().st_mode
                file.chmod(mode | (mode & 0o444) >> 2)  # whoever may read it
    except OSError:
        for file in new:
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / FOLDER).rmdir()
        raise
    return list(files)


def _script(needs: str, *lines: str) -> str:
    """A script that serves the folder that it lies in, wherever that is; more options may follow it."""
    *before, last = lines
    return "\n".join([
        "#!/bin/sh", f"# Serves the folder above. Needs: {needs}", "set -e",
        'folder=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)', *before, f'exec {last} "$@"', "",
    ])


def _compose(name: str, choices: Sequence[str], host: str, port: int) -> str:
    """A compose file beside which the model is, one folder up."""
    check = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{_INSIDE}/health', timeout=5)"
    listen = f"[{host}]" if ":" in host else host
    service = {
        "image": VLLM_IMAGE,
        "command": [word.replace("$", "$$") for word in ("/model", "--served-model-name", name, *choices)],
        "volumes": [{"type": "bind", "source": "..", "target": "/model", "read_only": True}],
        "ports": [f"{listen}:{port}:{_INSIDE}"],
        "ipc": "host",
        "deploy": {"resources": {"reservations": {"devices": [
            {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]},
        ]}}},
        "healthcheck": {"test": ["CMD", "python3", "-c", check], "interval": "10s", "timeout": "10s", "retries": 3,
                        "start_period": "300s"},
    }
    text = yaml.safe_dump({"services": {"vllm": service}}, sort_keys=False, allow_unicode=True, width=120)
    return f"# Serves the folder above. A driver of CUDA 12 needs the image {VLLM_IMAGE}-cu129.\n{text}"
