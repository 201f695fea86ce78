"""How a folder is served: lines that a shell reads as meant, files that lie well, and refusals that name a way out."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.cli import main
from core.contract.config import Config
from core.contract.deployment import Recipe, base_of, notes, prompt_of, question, recipes, write_recipes
from core.contract.errors import CheckpointError, UsageError
from core.contract.exports import Manifest, exported_files
from core.contract.record import Split


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate({
        "format": "merged", "base_model": "base", "run_id": "r", "epoch": 1, "step": 2, "metrics": {},
        "dtype": "float32", "split": Split(train=[], heldout=[]), "config": Config().model_dump(),
        "num_virtual_tokens": 2, "embedding_dim": 4, "verified_problems": 8, "files": {},
    } | changes)


def exported(folder: Path, **changes: Any) -> Path:
    """A folder as export leaves it, as far as its manifest goes."""
    folder.mkdir(parents=True)
    for name, content in (("model.safetensors", b"weights"), ("config.json", b"{}"), ("tokenizer.json", b"{}")):
        (folder / name).write_bytes(content)
    made = manifest(**changes).model_copy(update={"files": exported_files(folder)})
    (folder / "softtune.json").write_text(made.model_dump_json())
    return folder


def by_engine(folder: Path, **options: Any) -> dict[str, Recipe]:
    return {recipe.engine: recipe for recipe in recipes(folder, manifest(), **options)}


def stubbed(folder: Path, *programs: str) -> dict[str, str]:
    """An environment in which these programs print where they are and what they got."""
    folder.mkdir()
    for name in programs:
        (folder / name).write_text('#!/bin/sh\npwd -P\nfor word in "$@"; do echo "$word"; done\n')
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


AWKWARD = "it's a $HOME \"model\""
VLLM_OPTIONS = ["--host", "127.0.0.1", "--port", "9000", "--dtype", "float32", "--generation-config", "vllm"]


def test_commands_and_scripts_say_the_same_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = exported(tmp_path / "a b" / AWKWARD)
    write_recipes(folder, recipes(folder, manifest(), port=9000))
    env = stubbed(tmp_path / "bin", "vllm", "transformers")
    expected = {
        "vllm": ["serve", str(folder), "--served-model-name", AWKWARD, *VLLM_OPTIONS],
        "transformers": ["serve", AWKWARD, "--host", "127.0.0.1", "--port", "9000"],
    }
    for engine, words in expected.items():
        line = by_engine(folder, port=9000)[engine].command
        for command in (["sh", "-c", line], [str(folder / "serve" / f"{engine}.sh")]):
            place, *given = subprocess.check_output(command, env=env, cwd="/", text=True).splitlines()
            assert given == words, command
            assert place == str(folder.parent) or engine == "vllm"


def test_a_folder_that_was_moved_is_served_from_where_it_is_now_with_further_options(tmp_path: Path) -> None:
    folder = exported(tmp_path / "formerly")
    write_recipes(folder, recipes(folder, manifest()))
    folder.rename(tmp_path / "new")
    env = stubbed(tmp_path / "bin", "vllm", "transformers")
    for engine in ("vllm", "transformers"):
        script = tmp_path / "new" / "serve" / f"{engine}.sh"
        words = subprocess.check_output([script, "--api-key", "k y"], env=env, cwd="/", text=True).splitlines()
        assert "new" in words and words[-2:] == ["--api-key", "k y"] and "formerly" not in " ".join(words)


def test_the_compose_file_serves_the_folder_it_lies_in_read_only_on_the_address_that_was_asked_for() -> None:
    for host, mapped in (("127.0.0.1", "127.0.0.1:81:8000"), ("::1", "[::1]:81:8000"), ("0.0.0.0", "0.0.0.0:81:8000")):
        text = by_engine(Path(f"/x/{AWKWARD}"), host=host, port=81)["compose"].text
        (service,) = yaml.safe_load(text)["services"].values()
        assert service["ports"] == [mapped]
        assert service["volumes"] == [{"type": "bind", "source": "..", "target": "/model", "read_only": True}]
        image, tag = service["image"].split(":")
        assert image == "vllm/vllm-openai" and tag.startswith("v0.")
        assert service["command"] == ["/model", "--served-model-name", AWKWARD.replace("$", "$$"), "--dtype", "float32",
                                      "--generation-config", "vllm"]
        compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")


def test_the_question_is_greedy_and_ends_where_the_soft_prompt_was_meant_to() -> None:
    config = Config().model_dump()
    config["inference"] |= {"max_new_tokens": 77, "stop_sequences": ["\ndef", "it's"]}
    words = shlex.split(question(Path("/x/tuned"), manifest(config=config), "0.0.0.0", 9))
    body = json.loads(words[-1])
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:9/v1/completions"]
    assert body.pop("prompt").startswith("def add(a, b):\n")
    assert body == {"model": "tuned", "temperature": 0, "max_tokens": 77, "stop": ["\ndef", "it's"]}
    literal = manifest(auto_prepend=False, literal_prefix="<|soft_0|>", literal_suffix="!")
    assert json.loads(shlex.split(question(Path("/x/tuned"), literal))[-1])["prompt"].startswith("<|soft_0|>def add")
    assert prompt_of(literal, "x") == "<|soft_0|>x!" and prompt_of(manifest(), "x") == "x"
    assert any("begin with '<|soft_0|>' and end with '!'" in note for note in notes(literal))
    assert base_of("::", 9) == "http://[::1]:9"


def test_what_no_engine_serves_is_refused_with_what_to_do() -> None:
    with pytest.raises(CheckpointError, match=r"peft adapter(.|\n)*export CHECKPOINT --format merged"):
        recipes(Path("/x/adapter"), manifest(format="peft"))
    for folder in ("/x/a@b", "/", "/x/-f"):
        with pytest.raises(UsageError, match="rename it"):
            recipes(Path(folder), manifest())
    for options, words in (({"port": 0}, "--port: found 0"), ({"port": 65536}, "--port"), ({"host": ""}, "--host"),
                           ({"host": "a b"}, "--host: found 'a b'"), ({"host": "--x"}, "--host")):
        with pytest.raises(UsageError, match=words):
            recipes(Path("/x/m"), manifest(), **options)  # type: ignore[arg-type]


def test_files_are_written_once_and_never_over_others(tmp_path: Path) -> None:
    folder = exported(tmp_path / "m")
    made = recipes(folder, manifest())
    files = write_recipes(folder, made)
    assert sorted(file.name for file in files) == ["compose.yaml", "transformers.sh", "vllm.sh"]
    assert [bool(file.stat().st_mode & stat.S_IXUSR) for file in files] == [recipe.executable for recipe in made]
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}
    assert write_recipes(folder, made) == files  # the same again changes nothing
    files[0].write_text("mine")
    files[1].unlink()
    with pytest.raises(UsageError, match=r"vllm\.sh is there already"):
        write_recipes(folder, made)
    assert files[0].read_text() == "mine" and not files[1].exists()
    files[0].unlink()
    write_recipes(folder, made)
    assert {file: file.read_bytes() for file in files} == {file: content for file, (content, _) in before.items()}
    assert files[2].stat().st_mtime_ns == before[files[2]][1]


def test_a_disk_that_takes_only_some_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = exported(tmp_path / "m")
    from core.contract import deployment

    real, calls = deployment.write_whole, []

    def full(path: Path, content: str) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(deployment, "write_whole", full)
    with pytest.raises(OSError, match="No space"):
        write_recipes(folder, recipes(folder, manifest()))
    assert not (folder / "serve").exists()


def test_the_command_tells_everything_and_writes_only_when_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = exported(tmp_path / "tuned")
    assert main(["deploy", str(folder)]) == 0
    out = capfd.readouterr().out
    for recipe in recipes(folder, manifest()):
        assert recipe.command in out and recipe.needs in out
    assert question(folder, manifest()) in out
    assert f"softtune infer {folder} --endpoint http://127.0.0.1:8000 --split heldout" in out
    assert not (folder / "serve").exists()
    assert main(["deploy", str(folder), "--engine", "compose", "--port", "81", "--write", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["model"], [recipe["engine"] for recipe in told["recipes"]]) == ("tuned", ["compose"])
    assert told["written"] == [str(folder / "serve" / "compose.yaml")] and Path(told["written"][0]).is_file()


@pytest.mark.parametrize(("damage", "words", "status"), [
    (lambda folder: (folder / "model.safetensors").write_bytes(b"weighty"), "model.safetensors is not what was", 1),
    (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing", 1),
    (lambda folder: (folder / "softtune.json").unlink(), "no softtune.json in", 1),
    (lambda folder: (folder / "softtune.json").write_text("{"), "softtune.json is damaged", 1),
])
def test_a_damaged_folder_is_refused_by_the_file(
    damage: Any, words: str, status: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = exported(tmp_path / "m")
    damage(folder)
    assert main(["deploy", str(folder), "--write"]) == status
    assert words in capfd.readouterr().err and not (folder / "serve").exists()
