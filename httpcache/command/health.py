"""What the doctor finds: how bad it is, and what to do."""

from __future__ import annotations

from typing import NamedTuple

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """What a check has found. `level` is OK, WARNING or PROBLEM; `advice` is what to do, None if there is nothing."""

    check: str
    level: str
    text: str
    advice: str | None = None
