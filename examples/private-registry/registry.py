"""A stand-in for a private registry: one wheel behind Basic and a header token. For run.sh only.

`python registry.py PORT` serves http://127.0.0.1:PORT/simple/acme-tool/. It accepts the user `builder` with the
password `example-token`, or the header `Private-Token: example-token`, and answers 401 to everybody else.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "example-token"
BASIC = "Basic " + base64.b64encode(f"builder:{TOKEN}".encode()).decode()
WHEEL = "acme_tool-1.0-py3-none-any.whl"
INFO = "acme_tool-1.0.dist-info"


def wheel() -> bytes:
    """Return the smallest wheel that installers take."""
    files = {
        "acme_tool.py": "NAME = 'acme-tool'\n",
        f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: acme-tool\nVersion: 1.0\n",
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: example\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{INFO}/RECORD"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in (files | {f"{INFO}/RECORD": record}).items():
            archive.writestr(zipfile.ZipInfo(name), text)  # ZipInfo: a fixed date, so the bytes are the same each time
    return packed.getvalue()


BODY = wheel()
PAGE = f'<a href="../../files/{WHEEL}#sha256={hashlib.sha256(BODY).hexdigest()}">{WHEEL}</a>\n'.encode()
ROUTES = {"/simple/acme-tool/": (PAGE, "text/html"), f"/files/{WHEEL}": (BODY, "application/octet-stream")}


class Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    def do_GET(self) -> None:
        """401 without credentials, else the page, the wheel or 404."""
        known = self.headers.get("Authorization") == BASIC or self.headers.get("Private-Token") == TOKEN
        body, kind = ROUTES.get(self.path, (b"not found\n", "text/plain"))
        status = 401 if not known else 200 if self.path in ROUTES else 404
        self.send_response(status)
        if status == 401:
            body, kind = b"who are you?\n", "text/plain"
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
