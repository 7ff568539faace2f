"""Errors of the mirror's own say why: in its log, in what installers show, and how the address is to be written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from httpcache.web.error_log import MINUTE, MOST, ErrorLog
from pypi_adapter.addresses import meant, parse_when
from tests.support import http
from tests.support.clients import NOWHERE, PIP, UV, Clients
from tests.support.config import configured, table
from tests.support.index import PIP as ACCEPT
from tests.support.index import UV as UV_ACCEPT
from tests.support.index import ask
from tests.support.mirror import Mirror
from tests.support.upstream import Upstream

TODAY = datetime.now(UTC).date().isoformat()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A mirror with a registry `torch`, whose log is read."""
    folder = tmp_path_factory.mktemp("reasons")
    with configured(folder, table("registry", name="torch", index=f"{NOWHERE}/"), f"{NOWHERE}/simple/") as server:
        yield server


MEANT = {
    "2023-1-8": "2023-01-08",
    "2023-01-8": "2023-01-08",
    "20231118": "2023-11-18",
    "2023.11.18": "2023-11-18",
    "2023_11_18": "2023-11-18",
    "2023-11": "2023-11-01",
    "202311": "2023-11-01",
    "2023": "2023-01-01",
    "2023-11-18Z": "2023-11-18",
    "20231118T10": "2023-11-18",
    "2023-13-45": None,
    "18-11-2023": None,
    "18.11.2023": None,
    "2023-02-30": None,
    "latest": None,
    "Latest": None,
    "today": None,
    "now": None,
    "simple": None,
    "pypi": None,
    "Live": None,
    "LIVE": None,
    "live-7": None,
    "live7d": None,
    "live-7days": None,
}
"""What stands where a date should, and the date that it means."""


@pytest.mark.parametrize("behind", ["", "/", "/thing/", "/simple/thing/"])
@pytest.mark.parametrize("before", ["", "torch/"])
def test_who_meant_a_date_is_told_how_it_is_written(before: str, behind: str, asked: Mirror) -> None:
    for segment, right in MEANT.items():
        answer = ask(f"{asked.url}/{before}{segment}{behind}", "*/*")
        assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8"), segment
        assert "is not a date: write YYYY-MM-DD" in answer.text, segment
        assert (right or "for example") in answer.text, segment


@pytest.mark.parametrize("name", ["nvidia", "latest-2024-01-02", "v1", "torch2.1", "20231118x" * 9, "\x1b"])
def test_other_names_are_not_taken_for_dates(name: str) -> None:
    assert meant(name, 0) is None


@pytest.mark.parametrize("segment", ["2023-11-18", "2023-11-18T10:00:00Z", "live", "live-7d"])
def test_what_is_right_is_right(segment: str) -> None:
    assert parse_when(segment, 2_000_000_000_000_000) is not None


def test_a_pin_may_have_such_a_name(server: Mirror, upstream: Upstream) -> None:
    for name in ("latest", "simple", "20231118"):
        assert http.get(server.pin(name, f"{upstream.url}/x")).status_code == 404
        assert upstream.count("/x") >= 1


WRONG = {"2023-1-8": "2023-01-08", "9999-01-01": "is in the future", "20231118": "2023-11-18", "latest": TODAY}


@pytest.mark.parametrize("segment", WRONG)
def test_installers_get_problem_details(segment: str, asked: Mirror) -> None:
    """RFC 9457, for who accepts PEP 691's JSON; text for everybody else."""
    for accept in (ACCEPT, UV_ACCEPT):
        answer = ask(f"{asked.url}/{segment}/thing/", accept)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        problem = answer.json()
        assert (problem["title"], problem["status"]) == ("Bad Request", 400)
        assert WRONG[segment] in problem["detail"]
    assert ask(f"{asked.url}/{segment}/thing/", "text/html").headers["content-type"].startswith("text/plain")


def test_uv_shows_why_and_the_log_tells_for_pip(asked: Mirror, clients: Clients) -> None:
    """pip shows nothing of a 4xx, whatever is in it; with `-vv` the status."""
    home = clients.place()
    command = (UV, "pip", "compile", "--index-url", f"{asked.url}/2022-1-8/", "-")
    result = clients.run(*command, home=home, stdin="thing")
    assert "'2022-1-8' is not a date: write YYYY-MM-DD, for example 2022-01-08" in " ".join(result.errors.split())
    options = ("download", "-vv", "--index-url", f"{asked.url}/2021-1-8/", "thing")
    result = clients.run(*PIP, *options, home=home)
    assert "400 Client Error" in result.output + result.errors
    assert "answered 400: '2021-1-8' is not a date: write YYYY-MM-DD, for example 2021-01-08\n" in asked.log()


def test_errors_are_in_the_log_once_and_without_secrets(asked: Mirror) -> None:
    for _ in range(20):
        ask(f"{asked.url}/9998-01-01/thing/")
        ask(f"{asked.url}/torch/live/thing/one/two/")
    ask(f"{asked.url}/torch/live/thing/")
    http.get(f"{asked.url}/mypin/http://user:pa55w0rd@127.0.0.1:9/x?token=pa55w0rd")
    http.get(f"{asked.url}/mypin/http://127.0.0.1:9/x?token=pa55w0rd")
    http.get(f"{asked.url}/nothing%0aINFO%1b[31m/x")
    assert http.request("POST", f"{asked.url}/live/").status_code == 405
    log = asked.log()
    assert log.count("answered 400: 9998-01-01 is in the future") == 1
    assert log.count("answered 404: there is no such page") == 1
    assert log.count("answered 405: this mirror is read-only") == 1
    assert "answered 502: " in log
    assert "pa55w0rd" not in log
    assert "\x1b" not in log
    assert not any(line.startswith("INFO") for line in log.splitlines())


def test_the_log_cannot_be_flooded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "httpcache")
    seconds = [0.0]
    error_log = ErrorLog(lambda: seconds[0])
    for number in range(3 * MOST):
        error_log.log(404, f"no {number}\n")
        error_log.log(404, "no 7\n")
    assert len(caplog.messages) == MOST
    assert "answered 404: no 7\\n" in caplog.messages
    caplog.clear()
    seconds[0] += MINUTE
    error_log.log(400, "another")
    assert caplog.messages == [
        f"answered 404, {3 * MOST} times more: no 7\\n",
        f"answered {2 * MOST} more requests with errors that are not listed here",
        "answered 400: another",
    ]
