"""Reads upload times in the formats that indexes write, and writes them in that of PEP 700. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_PEP_700 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,6})?Z")
_LOOSE = re.compile(
    r"\s*(\d{4}-\d\d-\d\d)[Tt\s]\s*(\d\d:\d\d)(?::(\d\d)(?:[.,](\d+))?)?\s*(?:([Zz]|UTC|GMT)|([+-])(\d\d):?(\d\d)?)?\s*",
    re.ASCII,
)


def upload_time(text: str) -> str | None:
    """Return an upload time in the format of PEP 700, `yyyy-mm-ddThh:mm:ss.ffffffZ`; None if it is not an instant.

    A time already in this format is unchanged. A time without a zone is taken as UTC, an offset is applied, a fraction
    is cut to microseconds, and a leap second becomes the second before, as in uv. A date alone is not an instant.
    """
    if _PEP_700.fullmatch(text) and _moment(text):
        return text
    found = _LOOSE.fullmatch(text)
    if not found:
        return None
    day, minute, second, fraction, _, sign, hours, minutes = found.groups()
    moment = _moment(f"{day}T{minute}:{'59' if second == '60' else second or '00'}.{(fraction or '0')[:6]:0<6}Z")
    ahead = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if moment is None or ahead >= timedelta(days=1):
        return None
    try:
        utc = moment + ahead if sign == "-" else moment - ahead
    except OverflowError:  # before the year 1 or after 9999
        return None
    return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
