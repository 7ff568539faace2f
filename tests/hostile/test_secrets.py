"""Secrets in every place where a client, an upstream or the operator can put one, and a search in all that was written.

One run of the real server meets successes, refusals, failures and a killed worker. Afterwards its log, every byte of
its data folder, every answer to every client, the output of the commands and what the upstreams saw are searched.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import itertools
import json
import os
import re
import signal
import sqlite3
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

import anyio
import httpx
import pytest

from httpcache.access_keys import new_key
from httpcache.store.local import LocalStore
from tests.support import command, http
from tests.support.config import table
from tests.support.index import BROWSER, PIP
from tests.support.inside import processes, until
from tests.support.keys import FORMS, ask, make
from tests.support.mirror import Mirror
from tests.support.tally import tally
from tests.support.upstream import CUT, Request, Response, Upstream, redirect

USER: Final = "robot-b7d"
PASSWORD: Final = "S3CRET-password/a+b=c%d"
TOKENS: Final = {
    "X-Api-Key": "S3CRET-x-api-key/1+2=",
    "Private-Token": "S3CRET-private-token",
    "Job-Token": "S3CRET-job-token",
    "Deploy-Token": "S3CRET-deploy-token",
    "X-JFrog-Art-Api": "S3CRET-jfrog-art-api",
    "X-Our-Key": "S3CRET-our-own-header",
}
BASIC: Final = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
BEARER: Final = "Bearer S3CRET-bearer.eyJ.x_y-z"
WRONG: Final = "S3CRET-wrong-token"
NOT_FOR_UPSTREAMS: Final = {
    "Cookie": "session=S3CRET-client-cookie",
    "Proxy-Authorization": "Basic S3CRET-proxy-authorization",
    "Referer": "http://example.com/?token=S3CRET-referer",
    "X-Forwarded-For": "S3CRET-forwarded-for",
    "X-Csrf-Token": "S3CRET-csrf-token",
    "Origin": "http://S3CRET-origin.example",
    "Via": "1.1 S3CRET-via",
}
QUERY: Final = "S3CRET-query-signature"
USERINFO: Final = "S3CRET-user-info"
SIGNED: Final = "S3CRET-signed-redirect"
SET_COOKIE: Final = "S3CRET-upstream-cookie"
LINK: Final = "S3CRET-index-link-token"
PROXY_USER, PROXY_PASSWORD = "proxy-user", "S3CRET-proxy-password"

CLIENTS_OWN: Final = {
    "the password": PASSWORD,
    "user and password": f"{USER}:{PASSWORD}",
    "what Basic sends": BASIC.removeprefix("Basic "),
    "the bearer token": BEARER.removeprefix("Bearer "),
    "the wrong token": WRONG,
    "the query": QUERY,
    "the user info": USERINFO,
    **TOKENS,
    **{name: value[value.index("S3CRET") :] for name, value in NOT_FOR_UPSTREAMS.items()},
}
OPERATORS: Final = {
    "the proxy's password": PROXY_PASSWORD,
    "the proxy's user and password": f"{PROXY_USER}:{PROXY_PASSWORD}",
    "the password for a registry": (REGISTRY_PASSWORD := "S3CRET-of-the-registry/a+b"),
    "user and password for a registry": f"{USER}:{REGISTRY_PASSWORD}",
    "the token for a registry": (REGISTRY_TOKEN := "S3CRET-token-of-the-registry"),
}
REGISTRY_BASIC: Final = "Basic " + base64.b64encode(f"{USER}:{REGISTRY_PASSWORD}".encode()).decode()
KEYS: Final = {
    "a key": (KEY := new_key()),
    "a limited key": (LIMITED := new_key()),
    "a revoked key": (REVOKED := new_key()),
    "a key that is none": (NO_KEY := new_key()),
}
UPSTREAMS_OWN: Final = {"the signed redirect": SIGNED, "the upstream's cookie": SET_COOKIE}
CREDENTIALS: Final = {"authorization", *(name.lower() for name in TOKENS)}
FORWARDED: Final = {"host", "user-agent", "accept", "accept-encoding", "cdn-loop"}

WITH_BASIC: Final = {"Authorization": BASIC, **TOKENS, **NOT_FOR_UPSTREAMS}
WITH_BEARER: Final = {"Authorization": BEARER, **TOKENS, **NOT_FOR_UPSTREAMS}
WITH_WRONG: Final = {"Authorization": f"Bearer {WRONG}", "Private-Token": WRONG, "X-Our-Key": WRONG}
NOBODY: Final[dict[str, str]] = {}
COOKIE: Final = {"Set-Cookie": f"session={SET_COOKIE}; Path=/", "Content-Type": "text/plain"}
WHEEL: Final = "thing-1.0-py3-none-any.whl"


def _wheel() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    return file.getvalue()


WHEEL_BODY: Final = _wheel()
WHEEL_DIGEST: Final = hashlib.sha256(WHEEL_BODY).hexdigest()


# The search


def forms(secret: str) -> set[bytes]:
    """A secret as it could be written down: as it is, quoted, in Base64 at any place, in hex, hashed without a key."""
    raw = secret.encode()
    found = {raw, html.escape(secret).encode(), json.dumps(secret)[1:-1].encode(), raw.lower(), raw.upper()}
    found |= {quote(secret, safe=safe).encode() for safe in ("", "/")} | {quote_plus(secret).encode()}
    found |= {raw.hex().encode(), raw.hex().upper().encode()}
    for shift in range(3):
        padded = bytes(shift) + raw
        start, end = (0, 2, 3)[shift], len(padded) * 8 // 6
        found |= {encode(padded)[start:end] for encode in (base64.b64encode, base64.urlsafe_b64encode)}
    for name in ("sha256", "sha1", "md5"):
        digest = hashlib.new(name, raw).digest()
        found |= {digest, digest.hex().encode()}
    return found


def written(
    places: Mapping[str, bytes], secrets: Mapping[str, str], forms: Callable[[str], set[bytes]] = forms
) -> list[str]:
    """Where a secret is, of all places: nowhere, it is to be hoped."""
    searched = {name: forms(secret) for name, secret in secrets.items()}
    tally("forms of secrets searched for", sum(map(len, searched.values())) * len(places))
    return [
        f"{name} is in {place}, as {form!r}"
        for place, content in places.items()
        for name, wanted in searched.items()
        for form in wanted
        if form in content
    ]


def forms_but_the_stored(key: str) -> set[bytes]:
    """Of an access key the store has the SHA-256, which is what it is for."""
    return forms(key) - {hashlib.sha256(key.encode()).digest()}


# The run


@dataclass
class Run:
    """Everything that came out of one run; `answers` are the heads and bodies by who asked for what."""

    answers: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    folders: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    seen: dict[str, list[Request]] = field(default_factory=dict)
    keyed: dict[str, bytes] = field(default_factory=dict)
    """All that came of a mirror that requires access keys, but for the answers to who had one in the address."""
    linked: dict[str, bytes] = field(default_factory=dict)
    """These answers."""

    @property
    def everything(self) -> dict[str, bytes]:
        """All of it but the blobs, which have what the upstreams sent."""
        return self.answers | self.folders | self.outputs | self.logs


class Scenario:
    """The upstreams, the mirror, and one request after the other."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.run = Run()
        self.release = threading.Event()
        stack.callback(self.release.set)
        self.origin = stack.enter_context(Upstream(ranges=True))
        self.other = stack.enter_context(Upstream())
        self.pypi = stack.enter_context(Upstream(ranges=True))
        self.proxy = stack.enter_context(Upstream())
        self.named = stack.enter_context(Upstream(ranges=True, auth=(USER, REGISTRY_PASSWORD)))
        self.storage = stack.enter_context(Upstream(ranges=True))
        self.token = stack.enter_context(Upstream(tokens={"Private-Token": REGISTRY_TOKEN}))
        self.closed = stack.enter_context(Upstream())
        self.closed.stop()
        self._fill()
        self._settings_file = self._configure(folder)
        options = ["--credential-header", "X-Our-Key", "--log-level", "debug", "--stall-timeout", "0.5"]
        options += ["--config", str(self._settings_file), "--access-log"]
        environment = {"REGISTRY_PASSWORD": REGISTRY_PASSWORD}
        self.mirror = Mirror(folder / "direct", f"{self.pypi.url}/simple/", options, environment)
        proxy = f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:{self.proxy.port}"
        self.proxied = Mirror(folder / "proxied", arguments=["--proxy", proxy, "--log-level", "debug"])
        options = ["--config", str(self._settings_file), "--access-log", "--log-level", "debug", "--require-keys"]
        self.keyed = Mirror(folder / "keyed", f"{self.pypi.url}/simple/", options, environment)
        for server in (self.mirror, self.proxied, self.keyed):
            stack.callback(server.kill)

    def _configure(self, folder: Path) -> Path:
        """Registries with a password, a token, and a wrong password."""
        (folder / "token").write_text(REGISTRY_TOKEN)
        password = {"user": USER, "password": {"env": "REGISTRY_PASSWORD"}}
        path = folder / "mirror.toml"
        path.write_text(
            table("registry", name="named", index=f"{self.named.url}/simple/", **password)
            + table("registry", name="token", index=self.token.url, header="Private-Token", value={"file": "token"})
            + table("registry", name="refused", index=f"{self.token.url}/simple/", **password)
            + table("group", name="all", registries=["named", "pypi"])
            + table("group", name="none", registries=["pypi", "refused"])
        )
        return path

    def _fill(self) -> None:
        url, pages = self.origin.url, self.origin.pages
        pages["/open"] = Response(b"open", headers=COOKIE)
        pages["/signed"] = Response(b"signed", headers=COOKIE)
        pages["/basic"] = self._protected("Authorization", BASIC)
        pages["/bearer"] = self._protected("Authorization", BEARER)
        for name, value in TOKENS.items():
            pages[f"/{name}"] = self._protected(name, value)
        pages["/forbidden"] = Response(b"forbidden", 403, COOKIE)
        pages["/challenge"] = Response(b"challenge", 401, COOKIE | {"WWW-Authenticate": 'Basic realm="x"'})
        pages["/broken"] = Response([b"half", CUT], headers={"Content-Length": "8"})
        pages["/slow"] = Response([b"s", self.release], headers={"Content-Length": "8"})
        pages["/silent"] = Response([self.release, b"late"])
        pages["/huge"] = Response([b"x"], headers={"Content-Length": "9" * 20})
        pages["/stalled"] = Response([b"s" * 1000, self.release], headers={"Content-Length": "8000"})
        pages["/same"] = redirect(f"/same-landed?sig={SIGNED}")
        pages["/same-landed"] = Response(b"landed", headers=COOKIE)
        pages["/away"] = redirect(f"{self.other.url}/landed?X-Amz-Signature={SIGNED}")
        pages["/away-and-back"] = redirect(f"{self.other.url}/back?sig={SIGNED}")
        pages["/back-landed"] = Response(b"back", headers=COOKIE)
        pages["/loop"] = redirect(f"/loop?sig={SIGNED}")
        pages["/nowhere"] = redirect(f"ftp://u:{SIGNED}@127.0.0.1/?sig={SIGNED}")
        self.other.pages["/landed"] = Response(b"elsewhere", headers=COOKIE)
        self.other.pages["/back"] = redirect(f"{url}/back-landed?sig={SIGNED}")
        links = f'<a href="/f/{WHEEL}?token={LINK}#sha256={WHEEL_DIGEST}">{WHEEL}</a>'
        links += f'<a href="/f/other/{WHEEL}?token={LINK}#sha256={"0" * 64}">{WHEEL}</a>'
        pages["/simple/thing/"] = Response(
            f'<meta name="pypi:repository-version" content="1.0">{links}'.encode(),
            headers={"Content-Type": "text/html", "Set-Cookie": f"session={SET_COOKIE}"},
        )
        pages[f"/f/{WHEEL}"] = pages[f"/f/other/{WHEEL}"] = Response(WHEEL_BODY, headers=COOKIE)
        file = {"filename": WHEEL, "url": f"/f/{WHEEL}", "hashes": {"sha256": WHEEL_DIGEST}}
        times = {"upload-time": "2020-01-02T03:04:05Z", "size": len(WHEEL_BODY)}
        document = {"meta": {"api-version": "1.1"}, "name": "thing", "versions": ["1.0"], "files": [file | times]}
        kind = {"Content-Type": "application/vnd.pypi.simple.v1+json", "Set-Cookie": f"session={SET_COOKIE}"}
        self.pypi.pages["/simple/thing/"] = Response(json.dumps(document).encode(), headers=kind)
        self.named.pages.update(self.pypi.pages)
        self.named.pages[f"/f/{WHEEL}"] = redirect(f"{self.storage.url}/f?sig={SIGNED}")
        self.named.pages["/simple/broken/"] = Response([b"half", CUT], headers={"Content-Length": "8"})
        self.named.pages["/simple/moved/"] = redirect(f"{self.closed.url}/simple/moved/?sig={SIGNED}")
        self.storage.pages["/f"] = Response(WHEEL_BODY, headers=COOKIE)
        link = f'<a href="{self.named.url}/f/{WHEEL}#sha256={WHEEL_DIGEST}">{WHEEL}</a>'
        self.token.pages["/thing/"] = Response(link.encode(), headers=COOKIE | {"Content-Type": "text/html"})
        self.pypi.pages["/simple/"] = Response(
            b'{"meta": {"api-version": "1.0"}, "projects": [{"name": "thing"}]}', headers=kind
        )
        self.pypi.pages[f"/f/{WHEEL}"] = Response(WHEEL_BODY, headers=COOKIE)
        self.proxy.pages[f"{url}/open"] = Response(b"by proxy", headers=COOKIE)

    @staticmethod
    def _protected(name: str, value: str) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            if request.headers.get(name.lower()) == value:
                return Response(b"private", headers=COOKIE)
            return Response(b"who are you", 401, COOKIE | {"WWW-Authenticate": 'Basic realm="x"'})

        return answer

    def play(self) -> Run:
        """Everything, once."""
        self.mirror.start()
        self._fetch_everything()
        self._fail_in_every_way()
        self._index_and_files()
        self._named_registries()
        self._own_pages()
        self._kill_a_worker()
        self._reload()
        self._fetch_everything()
        self.ask("nobody", "/-/metrics", NOBODY)
        self.mirror.stop()
        self._commands()
        self.mirror.start("--offline", "--log-level", "debug", "--access-log", "--log-format", "json")
        self.ask("offline", f"/p/{self.origin.url}/never?sig={QUERY}", WITH_BASIC)
        self.ask("offline", f"/p/{self.origin.url}/open", NOBODY)
        self.mirror.stop()
        self._by_proxy()
        self._with_keys()
        self._collect("at the end", self.mirror.data)
        self._collect("by proxy", self.proxied.data)
        self.run.logs |= {"log": self.mirror.log().encode(), "log by proxy": self.proxied.log().encode()}
        for name in ("origin", "other", "pypi", "proxy", "named", "storage", "token"):
            self.run.seen[name] = list(getattr(self, name).requests)
        return self.run

    def ask(
        self, who: str, path: str, headers: Mapping[str, str], server: Mirror | None = None, method: str = "GET"
    ) -> None:
        """Send a request and keep all that came."""
        label = f"answer {len(self.run.answers)} to {who} for {path}"
        address = f"{(server or self.mirror).url}{path}"
        try:
            answer = http.request(method, address, headers=dict(headers), timeout=30)
        except httpx.TransportError as error:
            self.run.answers[label], self.run.statuses[label] = repr(error).encode(), 0
            return
        lines = [name + b": " + value for name, value in answer.headers.raw]
        self.run.answers[label] = b"\n".join([*lines, answer.content])
        self.run.statuses[label] = answer.status_code

    def everyone(self, path: str, **headers: str) -> None:
        """The owners, a stranger with wrong credentials, and nobody."""
        for who, sent in {"basic": WITH_BASIC, "bearer": WITH_BEARER, "wrong": WITH_WRONG, "nobody": NOBODY}.items():
            self.ask(who, path, dict(sent) | headers)

    def _fetch_everything(self) -> None:
        url = self.origin.url
        for name in ("open", "basic", "bearer", *TOKENS, "same", "away", "away-and-back"):
            self.everyone(f"/p/{url}/{name}")
        self.everyone(f"/p/{url}/signed?X-Amz-Signature={QUERY}&a={QUERY}")
        self.ask("range", f"/p/{url}/signed?X-Amz-Signature={QUERY}&a={QUERY}", WITH_BASIC | {"Range": "bytes=0-1,3-"})
        self.ask("head", f"/p/{url}/basic", WITH_BASIC, method="HEAD")
        self.ask("post", f"/p/{url}/basic?sig={QUERY}", WITH_BASIC, method="POST")

    def _fail_in_every_way(self) -> None:
        url = self.origin.url
        names = ("forbidden", "challenge", "absent", "broken", "slow", "silent", "huge", "loop", "nowhere")
        for name in names:
            self.ask("basic", f"/p/{url}/{name}?sig={QUERY}", WITH_BASIC)
            self.ask("nobody", f"/q/{url}/{name}", NOBODY)
        for address in (
            f"{self.closed.url}/x?sig={QUERY}",
            f"http://[::1]:{self.origin.port}/x?sig={QUERY}",  # not allowed
            f"http://no-such-name.invalid/x?sig={QUERY}",
            f"http://127.0.0.1:99999/x?sig={QUERY}",
            f"http://{USER}:{USERINFO}@127.0.0.1:{self.origin.port}/x?sig={QUERY}",
            f"http%3A%2F%2F{USER}%3A{USERINFO}%40127.0.0.1/x",
            f"ssh://{USER}:{USERINFO}%40127.0.0.1/x",
            f"ftp://{USER}:{USERINFO}@127.0.0.1/x?sig={QUERY}",
        ):
            self.ask("basic", f"/p/{address}", WITH_BASIC)
        self.ask("basic", f"/p-2024-02-30/{url}/open?sig={QUERY}", WITH_BASIC)
        self.ask("basic", f"/?sig={QUERY}", WITH_BASIC)

    def _index_and_files(self) -> None:
        url = self.origin.url
        for accept in (PIP, BROWSER, "*/*", "image/png"):
            self.everyone(f"/p/{url}/simple/thing/?sig={QUERY}", Accept=accept)
            self.everyone(f"/p/{url}/simple/thing/", Accept=accept)
        for path in (f"/f/{WHEEL}", f"/f/{WHEEL}.metadata", f"/f/other/{WHEEL}", f"/f/other/{WHEEL}.metadata"):
            self.everyone(f"/p/{url}{path}?token={LINK}")
        for path in (
            "/2024-01-02/thing/", "/2024-01-02/Thing", "/live/thing/", "/2024-01-02/", "/live/absent/",
            "/2999-01-01/x/", f"/files/thing/{WHEEL_DIGEST}/{WHEEL}", f"/files/thing/{WHEEL_DIGEST}/{WHEEL}.metadata",
        ):  # fmt: skip
            self.everyone(f"{path}?sig={QUERY}")

    def _named_registries(self) -> None:
        file = f"files/thing/{WHEEL_DIGEST}/{WHEEL}"
        for name in ("named", "token", "refused", "all", "none"):
            for path in (
                "live/thing/", "live/Thing", "live-7d/thing/", "2024-01-02/thing/", "live/", "live/absent/",
                "live/broken/", "live/moved/", "thing/", "2999-01-01/x/", file, f"{file}.metadata",
                f"{self.origin.url}/open",
            ):  # fmt: skip
                self.everyone(f"/{name}/{path}?sig={QUERY}")

    def _own_pages(self) -> None:
        for path in ("/", "/-/health", "/-/ready", "/-/absent", "/favicon.ico"):
            self.everyone(path)
        looked = f"/-/entry/?address=/p/{self.origin.url}/signed?X-Amz-Signature={QUERY}"
        for path in (
            "pins/",
            "pins/p/",
            "pins/named/",
            "projects/thing/",
            "captures/",
            "rules/",
            "registries/",
            "activity/",
            "log/checkpoint",
            "log/key",
            "log/logs",
            "log/entries/pypi/thing",
            "log/entries/named/thing",
            "log/tile/entries/000.p/9",
        ):
            self.everyone(f"/-/{path}")
        self.everyone(looked)
        for name in re.findall(rb"/-/entry/[0-9a-f]{64}/", b"".join(self.run.answers.values())):
            self.ask("nobody", name.decode(), NOBODY)

    def _kill_a_worker(self) -> None:
        """While it downloads for one with credentials; what is in the spool then is looked at."""
        assert self.mirror.process is not None
        victim = max(set(processes(self.mirror)) - {self.mirror.process.pid})
        address = f"{self.mirror.url}/p/{self.origin.url}/stalled?sig={QUERY}"
        with http.stream("GET", address, headers=WITH_BEARER) as answer, suppress(httpx.TransportError):
            chunks = answer.iter_raw()
            next(chunks)
            assert list((self.mirror.data / "spool").glob("*.head"))
            self._collect("in a download", self.mirror.data)
            os.kill(victim, signal.SIGKILL)
            list(chunks)
        until(lambda: victim not in processes(self.mirror), "the end of the worker")
        until(self._is_ready, "the next worker")
        self._collect("after a kill", self.mirror.data)

    def _reload(self) -> None:
        """With secrets where they do not belong, with a proxy that has a password, and as it was."""
        assert self.mirror.process is not None
        good = self._settings_file.read_text()
        plain = f'[[registry]]\nname = "x"\nindex = "https://{USER}:{REGISTRY_PASSWORD}@x/?sig={SIGNED}"\n'
        for number, text in enumerate((
            f'proxi = "http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:1"\n{good}',
            f'proxy = "ftp://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:1"\n{good}',
            f'pypi-upstream = "http://{USER}:{REGISTRY_PASSWORD}@x/"\n{good}',
            good + plain,
            good + f'user = "{USER}"\npassword = "{REGISTRY_PASSWORD}"\n',
            f'blobs = "s3://{USER}:{REGISTRY_PASSWORD}@bucket/"\nindex = "postgresql://{USER}:{REGISTRY_PASSWORD}@x"\n',
            f'proxy = "http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:{self.closed.port}"\n{good}',
            good,
        ), 1):  # fmt: skip
            self._settings_file.write_text(text)
            self.mirror.process.send_signal(signal.SIGHUP)
            until(lambda number=number: self.mirror.log().count(" the settings ") == number, "the reload")  # type: ignore[misc]

    def _is_ready(self) -> bool:
        try:
            return http.get(f"{self.mirror.url}/-/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def _commands(self) -> None:
        url = self.origin.url
        data = ("--data", self.mirror.data)
        signed = f"/p/{url}/signed?X-Amz-Signature={QUERY}&a={QUERY}"
        proxy = f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:1"
        for arguments in (
            ("ls", *data), ("ls", *data, "p"), ("ls", *data, "files"), ("show", *data, signed),
            ("ls", *data, "named"), ("show", *data, f"/named/files/thing/{WHEEL_DIGEST}/{WHEEL}"),
            ("history", *data, "thing"),
            ("show", *data, f"/p/{url}/basic"), ("show", *data, f"/p/{url}/f/{WHEEL}?token={LINK}"),
            ("show", *data, f"/p/{url}/never?sig={QUERY}"),
            ("show", *data, f"/p/http://{USER}:{USERINFO}@127.0.0.1/x"),
            ("settings", "--config", self._settings_file, "--proxy", proxy, "--index", f"postgresql://{proxy[7:]}/x",
             "--blobs", f"s3://{proxy[7:]}/x"),
            ("settings", "--json", "--config", self._settings_file, "--proxy", proxy, "--pypi-upstream", proxy),
            ("settings", "--json", "--config", self._settings_file, "--proxy", proxy),
            ("verify", *data), ("forget", *data, "--yes", signed), ("forget", *data, "--yes", signed),
        ):  # fmt: skip
            ran = command.run(*arguments, environment={"REGISTRY_PASSWORD": REGISTRY_PASSWORD})
            label = f"output {len(self.run.outputs)} of {arguments[0]}"
            self.run.outputs[label] = f"{ran.stdout}\n{ran.stderr}".encode()
            self.run.statuses[label] = ran.returncode

    def _by_proxy(self) -> None:
        self.proxied.start()
        self.ask("proxied", f"/p/{self.origin.url}/open", WITH_BASIC, self.proxied)
        self.ask("proxied", f"/p/{self.origin.url}/absent?sig={QUERY}", WITH_BASIC, self.proxied)
        self.ask("proxied", f"/p/https://127.0.0.1:{self.origin.port}/x?sig={QUERY}", WITH_BASIC, self.proxied)
        self.proxy.stop()
        self.ask("proxied", f"/p/{self.origin.url}/other?sig={QUERY}", WITH_BASIC, self.proxied)
        self.ask("proxied", "/", NOBODY, self.proxied)
        self.proxied.stop()

    def _with_keys(self) -> None:
        """Every form of every key, for what is there, what is not, what asks for a login, and what no address is."""
        self.keyed.start()
        data, url = self.keyed.data, self.origin.url
        make(data, KEY, name="whole")
        make(data, LIMITED, pins=["p"])
        make(data, REVOKED, revoked=True)
        paths = [
            f"/p/{url}/open", f"/p/{url}/basic", f"/p/{url}/simple/thing/", f"/q/{url}/absent?sig={QUERY}", "/x", "/",
            "/live/thing/", "/2024-01-02/Thing", "/2024-01-02--build/thing/", "/2999-01-01/x/", "/named/live/thing/",
            "/all/live/absent/", "/-/activity/", "/-/pins/p/", "/-/metrics", "/-/nothing",
        ]  # fmt: skip
        for key, form, path in itertools.product(
            KEYS.values(), FORMS, [*paths, *(f"/{key}/x" for key in KEYS.values())]
        ):
            answer = ask(self.keyed.url, path, key, form, Accept=PIP)
            lines = b"\n".join(name + b": " + value for name, value in answer.headers.raw)
            place = self.run.linked if form == "address" else self.run.keyed
            if key not in path:
                place[f"answer to {form} for {path} {len(place)}"] = lines + b"\n" + answer.content
        address = f"{self.keyed.url}/k/{KEY}/p/{url}/open"
        for arguments in (
            ["key", "list", "--all"],
            ["key", "list", "--json"],
            ["ls", "p"],
            ["show", address],
            ["stats"],
        ):
            ran = command.run(*arguments, "--data", data)
            self.run.keyed[f"output of {arguments}"] = f"{ran.stdout}\n{ran.stderr}".encode()
        self.keyed.stop()
        self.run.keyed |= {str(path): path.read_bytes() for path in data.rglob("*") if path.is_file()}
        self.run.keyed |= {f"entry {number}": entry for number, entry in enumerate(_entries(data))}
        self.run.keyed["log"] = self.keyed.log().encode()

    def _collect(self, when: str, data: Path) -> None:
        """Every byte of a data folder; the values of the index once more as they are when they are read."""
        for path in data.rglob("*"):
            if path.is_file():
                label = f"{path.relative_to(data)} {when}"
                has_bodies = path.is_relative_to(data / "blobs") or path.suffix == ".part" or "index.db" in path.name
                place = self.run.blobs if has_bodies else None
                (self.run.folders if place is None else place)[label] = path.name.encode() + b"\n" + path.read_bytes()
        self.run.folders[f"entries {when}"] = b"\n".join(_entries(data))
        with closing(sqlite3.connect(data / "index" / "index.db")) as index:
            tables = {name for (name,) in index.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            for table in tables - {"bodies"}:
                rows = index.execute(f"SELECT * FROM {table}").fetchall()
                self.run.folders[f"{table} {when}"] = repr(rows).encode()


def _entries(data: Path) -> list[bytes]:
    """Keys and values of the index, unpacked where they are packed."""

    async def read() -> list[bytes]:
        store = LocalStore(data)
        try:
            return [part async for key, value in store.entries("") for part in (key.encode(), value, _unpacked(value))]
        finally:
            store.close()

    return anyio.run(read)


def _unpacked(value: bytes) -> bytes:
    try:
        return zlib.decompress(value)
    except zlib.error:
        return b""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The run, once for all tests of this module."""
    with ExitStack() as stack:
        yield Scenario(tmp_path_factory.mktemp("secrets"), stack).play()


# That it was a run


def test_the_search_finds_what_is_there() -> None:
    """Each form, in the middle of other bytes."""
    for number, form in enumerate(forms(PASSWORD)):
        assert written({"here": b"\0\xff" + form + b"\xfe"}, {"it": PASSWORD}), number
    for shift in range(3):
        packed = base64.b64encode(b"x" * shift + PASSWORD.encode() + b"yz")
        assert written({"here": packed}, {"it": PASSWORD})
    assert written({"here": b"nothing"}, {"it": PASSWORD}) == []


def test_the_run_met_everything(run: Run) -> None:
    """Successes and every kind of failure: else the search would show nothing."""
    assert {0, 200, 206, 307, 400, 401, 403, 404, 405, 502, 504} <= set(run.statuses.values())
    assert len(run.answers) > 150
    assert len(run.seen["origin"]) > 50
    assert len(run.seen["other"]) > 4
    assert len(run.seen["pypi"]) > 3
    assert any("spool" in place for place in run.folders), "no head of a download was looked at"
    assert b"froze" in run.logs["log"]
    assert len(run.logs["log"].splitlines()) > 20


def test_credentials_opened_what_they_open(run: Run) -> None:
    """Each of them reached the upstream, and what it opened was shown to nobody else."""
    for name, value in {**TOKENS, "Authorization": BEARER}.items():
        assert any(request.headers.get(name.lower()) == value for request in run.seen["origin"]), name
    assert any(request.headers.get("authorization") == BASIC for request in run.seen["origin"])
    for label, content in run.answers.items():
        if label.split(" to ")[1].startswith(("nobody", "wrong")):
            assert not content.endswith(b"\nprivate"), label


# What was written


@pytest.mark.parametrize("kind", ["answers", "folders", "blobs", "outputs", "logs"])
def test_no_secret_of_a_client_is_written_anywhere(kind: str, run: Run) -> None:
    """Not in the log, not in the data folder, not in an answer to anybody, not in what a command prints."""
    places: dict[str, bytes] = getattr(run, kind)
    assert places
    assert written(places, CLIENTS_OWN) == []


def test_no_secret_of_the_operator_is_written_anywhere(run: Run) -> None:
    assert written(run.everything | run.blobs, OPERATORS) == []


def test_no_access_key_is_written_anywhere(run: Run) -> None:
    """But into the links of who has it in the address: not into the log, the store, a page, a metric, an output."""
    assert {b"\nprivate" in content for content in run.linked.values()} == {False}
    assert any(KEY.encode() in content for content in run.linked.values())
    assert b"GET" in run.keyed["log"]
    assert len(run.keyed) > 200
    assert written(run.keyed, KEYS, forms_but_the_stored) == []


def test_signed_redirects_and_cookies_of_an_upstream_are_written_nowhere(run: Run) -> None:
    assert written(run.everything | run.blobs, UPSTREAMS_OWN) == []


def test_tokens_in_the_links_of_an_index_are_in_its_page_alone(run: Run) -> None:
    """In the blob and in the page as it is served to those who may read it; not in the log, the index, the commands."""
    assert written(run.folders | run.outputs | run.logs, {"the link's token": LINK}) == []
    pages = {label: content for label, content in run.answers.items() if "/simple/thing/" in label}
    assert written(pages, {"the link's token": LINK})
    assert written({k: v for k, v in run.answers.items() if k not in pages}, {"the link's token": LINK}) == []
    assert written(run.blobs, {"the link's token": LINK})


# What was sent


def test_upstreams_see_the_headers_that_they_need_and_no_others(run: Run) -> None:
    """`Accept` and credentials are the client's; the rest is the mirror's own. Wheels are read by ranges."""
    for name in ("origin", "other", "pypi"):
        for request in run.seen[name]:
            optional = {"range", "accept", "cache-control"} if name == "pypi" else {"range"}  # not of its files
            assert set(request.headers) - CREDENTIALS - optional == FORWARDED - optional, request
            assert "range" not in request.headers or request.path.endswith(".whl")
            assert request.method == "GET"
            assert request.headers["user-agent"].startswith("httpcache/")
            is_page = name == "pypi" and request.path.endswith("/")  # which is read, and not kept as it came
            assert request.headers["accept-encoding"] == ("gzip" if is_page else "identity"), request


def test_no_cookie_goes_either_way(run: Run) -> None:
    assert not [request for seen in run.seen.values() for request in seen if "cookie" in request.headers]
    assert not [label for label, content in run.answers.items() if b"\nset-cookie:" in b"\n" + content.lower()]


def test_no_credential_reaches_another_origin(run: Run) -> None:
    """Another port of the same host is one; and who was led back by it has none either."""
    assert not [request for request in run.seen["other"] if CREDENTIALS & set(request.headers)]
    back = [request for request in run.seen["origin"] if request.path == "/back-landed"]
    assert back
    assert not [request for request in back if CREDENTIALS & set(request.headers)]
    stayed = [request for request in run.seen["origin"] if request.path == "/same-landed"]
    assert [request for request in stayed if CREDENTIALS & set(request.headers)]


def test_a_registry_gets_the_credentials_of_the_operator_and_no_others(run: Run) -> None:
    """Its own, straight away. Where another registry lists a file of its, none; where it redirects to, none."""

    def carried(name: str) -> set[tuple[tuple[str, str], ...]]:
        heads = (request.headers for request in run.seen[name])
        return {tuple(sorted((key, head[key]) for key in CREDENTIALS & set(head))) for head in heads}

    basic, token = (("authorization", REGISTRY_BASIC),), (("private-token", REGISTRY_TOKEN),)
    assert carried("named") == {basic, ()}
    assert carried("token") == {token, basic}  # two registries are on it, and one has the password of another
    assert carried("storage") == {()}
    for registry, status in {"named": 200, "token": 200, "refused": 502, "all": 200, "none": 200}.items():
        asked = [
            label for label in run.statuses if label.endswith(f"to nobody for /{registry}/live/thing/?sig={QUERY}")
        ]
        assert [run.statuses[label] for label in asked] == [status]
    assert any(content.endswith(WHEEL_BODY) for label, content in run.answers.items() if "/named/files" in label)


def test_no_credential_and_no_query_reaches_the_index_behind_dates(run: Run) -> None:
    assert not [request for request in run.seen["pypi"] if CREDENTIALS & set(request.headers)]
    assert not [request for request in run.seen["pypi"] if "?" in request.target]


def test_the_proxy_gets_its_password_and_the_origin_does_not(run: Run) -> None:
    """A proxy of plain HTTP sees the client's credentials too, as it sees all that passes."""
    expected = "Basic " + base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode()).decode()
    assert {request.headers.get("proxy-authorization") for request in run.seen["proxy"]} == {expected}
    assert not [request for request in run.seen["origin"] if "proxy-authorization" in request.headers]
    for request in run.seen["proxy"]:
        assert set(request.headers) - CREDENTIALS - {"proxy-authorization"} == FORWARDED, request
