"""The page at `/`: how to use the mirror, with its own address and a date filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from httpcache.adapter import Adapter, Recipe
from httpcache.page import Shown, Visit

from .recipes import recipes


@dataclass(frozen=True)
class Home:
    """The mirror's `address`, the `date` in the lines, `today`, and what is `wrong` with the date asked for, or ""."""

    address: str
    date: str
    today: str
    wrong: str
    recipes: Mapping[str, Sequence[Recipe]]


def home(visit: Visit, adapters: Sequence[Adapter]) -> Shown:
    """Show how each client uses the mirror; `?date=` is the date in the lines."""
    today = datetime.now(UTC).date()
    asked = visit.query.get("date", "").strip()
    chosen = _read(asked) if asked else today
    wrong = ""
    if chosen is None:
        wrong = f"{asked[:40]!r} is not a date: write YYYY-MM-DD."
    elif chosen > today:
        wrong = f"{chosen} is in the future: the newest date is today's."
    shown = today if chosen is None or chosen > today else chosen
    found = recipes(visit.address, shown.isoformat(), adapters)
    page = Home(visit.address, shown.isoformat(), today.isoformat(), wrong, found)
    return Shown("home.html", page, 400 if wrong else 200)


def _read(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if found.isoformat() == text else None
