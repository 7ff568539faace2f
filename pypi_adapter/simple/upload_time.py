"""Upload times: read as loosely as indexes write them, and written as PEP 700 has them. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_PEP_700 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,6})?Z")
_LOOSE = re.compile(
    r"\s*(\d{4}-\d\d-\d\d)[Tt\s]\s*(\d\d:\d\d)(?::(\d\d)(?:[.,](\d+))?)?\s*(?:([Zz]|UTC|GMT)|([+-])(\d\d):?(\d\d)?)?\s*",
    re.ASCII,
)


def upload_time(text: str) -> str | None:
    """An upload time as PEP 700 writes it, `yyyy-mm-ddThh:mm:ss.ffffffZ`; None for what is no moment.

    One that is written so stays as it is. A time without a zone is in UTC, an offset is applied, a fraction is cut to
    microseconds, and a leap second is the second before, as it is for uv. A day alone is no moment.
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
