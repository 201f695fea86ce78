"""The app in a browser: it paints, it answers its own pages alone, and wrong options are told."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from tui.serve import allowed_origins, make_server, parse


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_browser_gets_the_app_and_other_sites_get_nothing(tmp_path: Path) -> None:
    port = free_port()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "tui", "serve", "--port", str(port), cwd=tmp_path,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}, stderr=asyncio.subprocess.PIPE,
    )
    assert server.stderr is not None
    try:
        assert f"http://localhost:{port}" in (await asyncio.wait_for(server.stderr.readline(), 20)).decode()
        url = f"http://localhost:{port}"
        async with aiohttp.ClientSession() as browser:
            await _until_it_listens(browser, url)
            async with browser.get(url, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 403
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await browser.ws_connect(f"{url}/ws", origin="http://evil.example")
            async with browser.ws_connect(f"{url}/ws?width=100&height=30", origin=url) as tab:
                painted = b""
                while b"softtune" not in painted:
                    painted += (await asyncio.wait_for(tab.receive_bytes(), 20))
    finally:
        server.terminate()
        await server.communicate()


async def _until_it_listens(browser: aiohttp.ClientSession, url: str) -> None:
    for _ in range(100):
        try:
            async with browser.get(url) as answer:
                assert answer.status == 200
                return
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.1)
    pytest.fail("it never listened")


def test_it_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    server = make_server(parse([]))
    assert (server.host, server.port) == ("localhost", 8000)
    assert "--demo" not in server.command
    assert make_server(parse(["--demo", "--host", "0.0.0.0", "--port", "9"])).command.endswith("--demo")


@pytest.mark.parametrize(("url", "hosts"), [
    ("http://localhost:8000", {"localhost:8000", "127.0.0.1:8000", "[::1]:8000"}),
    ("http://box:8000", {"box:8000"}),
    ("https://box.example", {"box.example"}),
])
def test_allowed_hosts_are_those_of_the_address(url: str, hosts: set[str]) -> None:
    assert allowed_origins(url) == hosts


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tui.serve import serve

    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    assert serve([]) == 2
    assert "pip install 'softtune[serve]'" in capsys.readouterr().err


def test_a_port_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--port", "70000"])
    assert ended.value.code == 2
    assert "--port 70000" in capsys.readouterr().err
