"""Content that nobody announced: rules about it hold before the first byte, METADATA is compared whoever reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support import http
from tests.support.index import document, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Upstream

BAD, GOOD = wheel("demo", "1.1", padding=5_000_000), wheel("demo", "1.0")
MD5 = hashlib.md5(BAD.data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("hashes", [{}, {"md5": MD5}], ids=["no digest", "another digest"])
@pytest.mark.parametrize("rule", ["everywhere", "in the project", "in another"])
def test_a_blocked_content(
    hashes: dict[str, str], rule: str, pypi: PyPI, mirror: Callable[..., Mirror], tmp_path: Path
) -> None:
    """Not a byte of it goes out, at the first request as at all others; other files do."""
    named = {"everywhere": {}, "in the project": {"project": "demo"}, "in another": {"project": "other"}}[rule]
    lines = [
        f"{key} = {json.dumps(value)}\n" for key, value in {"sha256": BAD.sha256, "reason": "evil", **named}.items()
    ]
    (tmp_path / "rules.toml").write_text("[[block]]\n" + "".join(lines))
    running = mirror(pypi, "--config", str(tmp_path / "rules.toml"))
    files = []
    for dist in (BAD, GOOD):
        pypi.files.pages[f"/{dist.filename}"] = dist.data
        files.append(json_file(f"{pypi.files.url}/{dist.filename}", hashes=hashes if dist is BAD else {}))
    pypi.index.pages["/simple/demo/"] = json_page(json_files(*files))
    bad, good = (running.same(file["url"]) for file in document(f"{running.at('live')}demo/")["files"])
    for _ in range(2):
        answer = http.get(bad)
        if rule == "in another":
            assert answer.content == BAD.data
        else:
            assert answer.status_code == 403
            assert "evil" in answer.text
    assert http.get(good).content == GOOD.data


@pytest.mark.parametrize("first", ["metadata", "wheel"])
def test_metadata_beside_a_wheel_of_another_token(
    first: str, upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    """A has METADATA of a wheel by ranges, B freezes what is there later: what is not the wheel's does not stay."""
    host = upstreams(tokens={"private-token": "a", "job-token": "b"}, ranges=True)
    one, two = (wheel("demo", "1.0", [need], padding=200_000) for need in ("left", "right"))
    path = f"/{one.filename}"
    address = server.pin(pin, host.url + path)
    a, b = {"Private-Token": "a"}, {"Job-Token": "b"}

    def metadata() -> int:
        return http.get(f"{address}.metadata", headers=a).status_code

    if first == "metadata":
        host.pages[path] = one.data
        assert metadata() == 200
        host.pages[path] = two.data
        assert http.get(address, headers=b).content == two.data
    else:
        host.pages[path] = two.data
        assert http.get(address, headers=b).content == two.data
        host.pages[path] = one.data
        with suppress(httpx.RemoteProtocolError):  # where the head is out before the wheel has been looked at
            assert metadata() == 502
    host.pages[path] = two.data
    answers = [http.get(f"{address}.metadata", headers=headers) for headers in (a, b)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, two.metadata)] * 2
