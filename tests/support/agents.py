"""What pip and uv say of the Python that they install for, in `User-Agent`."""

from __future__ import annotations

import json
from typing import Any


def agent(installer: str = "pip/26.3", **told: Any) -> str:
    """The `User-Agent` of an installer for CPython 3.12 on Linux; `told` changes what it says, None takes it out."""
    libc = {"lib": "glibc", "version": "2.36"}
    says: dict[str, Any] = {
        "ci": None,
        "cpu": "x86_64",
        "distro": {"id": "bookworm", "libc": libc, "name": "Debian GNU/Linux", "version": "12"},
        "implementation": {"name": "CPython", "version": "3.12.4"},
        "python": "3.12.4",
        "system": {"name": "Linux", "release": "6.1.0"},
    }
    says |= told
    return f"{installer} {json.dumps({key: value for key, value in says.items() if value is not None})}"
