"""Commands on URLs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepson_cli.main import main
from tests.stepson.servers import Files, http_server
from tests.stepson.test_remote import MIDDLE, OPEN


@pytest.fixture
def server() -> Iterator[Files]:
    with http_server() as files:
        files.content.update({"/a%20b/md.son?v=1": MIDDLE, "/open.son": OPEN})
        yield files


def test_info(server: Files, capsys: pytest.CaptureFixture[str]) -> None:
    url = server.url + "a%20b/md.son?v=1"
    assert main(["info", "--json", url]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == url
    assert found["frames"] == 300
    assert found["state"] == "sealed"
    assert len(server.asked) <= 4
    server.reset()
    assert main(["info", server.url + "open.son"]) == 0
    assert "not sealed" in capsys.readouterr().out
    assert len(server.asked) <= 6


def test_verify(server: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--deep", server.url + "a%20b/md.son?v=1"]) == 0
    assert "sound" in capsys.readouterr().out
    place = len(MIDDLE) // 2
    broken = MIDDLE[:place] + bytes([MIDDLE[place] ^ 1]) + MIDDLE[place + 1 :]
    server.content["/broken.son"] = broken
    assert main(["verify", server.url + "broken.son"]) == 1
    assert "positions" in capsys.readouterr().out


def test_gk(server: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--temperature", "300", "--volume", "1000", "-o", str(tmp_path), "--json"]
    assert main(["gk", server.url + "open.son", *words]) == 0
    assert json.loads(capsys.readouterr().out)["kappa"] > 0


@pytest.mark.parametrize("command", ["info", "verify", "gk"])
def test_one_line(server: Files, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in (("nothing", "there is no such file"), ("open.son", "403")):
        server.always = "" if name == "nothing" else "403"
        assert main([command, server.url + name]) == 1
        error = capsys.readouterr().err
        assert f"{server.url}{name}: " in error
        assert words in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("url", ["https://h:port/x.son", "http://[::1/x.son", "data://x"])
@pytest.mark.parametrize("command", ["info", "verify"])
def test_urls_that_are_none(
    command: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, url]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert url in error
