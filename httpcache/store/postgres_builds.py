"""The builds in PostgreSQL, shared by all nodes. See `postgres_schema` for their tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .builds import BUILDS, FILES, INDEXES, Build, File, PartOfBuild, Taken, Uses
from .postgres_connection import Connection
from .postgres_pool import Pool, Row

# The row of the build is changed first. So only one process at a time adds to a build, and the bounds hold.
_ADD_BUILD = """
INSERT INTO builds VALUES (%(build)s, %(first)s, %(last)s) ON CONFLICT (build) DO UPDATE SET
    first_use = least(builds.first_use, excluded.first_use), last_use = greatest(builds.last_use, excluded.last_use)
"""
_ADD_INDEXES = f"""
INSERT INTO build_indexes SELECT %(build)s, name FROM unnest(%(indexes)s::text[]) AS given (name)
WHERE NOT EXISTS (SELECT FROM build_indexes AS known WHERE known.build = %(build)s AND known.name = given.name)
LIMIT greatest(0, {INDEXES} - (SELECT count(*) FROM build_indexes WHERE build = %(build)s))
"""  # noqa: S608
_ADD_FILES = f"""
INSERT INTO build_files SELECT %(build)s, given.* FROM unnest(
    %(names)s::text[], %(pins)s::text[], %(urls)s::text[], %(targets)s::text[], %(digests)s::text[],
    %(sizes)s::bigint[], %(privates)s::boolean[], %(clients)s::text[], %(firsts)s::double precision[]
) AS given (name, pin, url, target, digest, size, is_private, client, first_use)
WHERE NOT EXISTS (
    SELECT FROM build_files AS known WHERE known.build = %(build)s AND known.name = given.name
    AND known.target = given.target AND known.digest = given.digest
)
LIMIT greatest(0, {FILES} - (SELECT count(*) FROM build_files WHERE build = %(build)s))
ON CONFLICT DO NOTHING
"""  # noqa: S608
_PRUNE = f"""
WITH old AS (
    DELETE FROM builds WHERE last_use < %(before)s
        OR build IN (SELECT build FROM builds ORDER BY last_use DESC, build OFFSET {BUILDS})
    RETURNING build
), files AS (DELETE FROM build_files WHERE build IN (SELECT build FROM old))
DELETE FROM build_indexes WHERE build IN (SELECT build FROM old) RETURNING build
"""  # noqa: S608
_ALL = """
SELECT build, first_use, last_use,
    ARRAY(SELECT name FROM build_indexes AS used WHERE used.build = builds.build ORDER BY name),
    (SELECT count(*) FROM build_files AS taken WHERE taken.build = builds.build),
    (SELECT coalesce(sum(size), 0)::bigint FROM build_files AS taken WHERE taken.build = builds.build)
FROM builds
"""


class PostgresBuilds:
    """See Builds. `pool` has the connections of the index."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, uses: Uses) -> None:
        """See Builds."""
        await self._pool.do(partial(_add, uses.of_builds()), again=True)

    async def prune(self, before: float) -> None:
        """See Builds."""
        await self._pool.rows(_PRUNE, {"before": before})

    async def all(self) -> list[Build]:
        """See Builds."""
        return [_build(row) for row in await self._pool.rows(f"{_ALL} ORDER BY last_use DESC, build")]

    async def get(self, label: str) -> Build | None:
        """See Builds."""
        for row in await self._pool.rows(f"{_ALL} WHERE build = %(build)s", {"build": label}):
            return _build(row)
        return None

    async def files(self, label: str) -> list[Taken]:
        """See Builds."""
        query = "SELECT * FROM build_files WHERE build = %(build)s ORDER BY pin, url, name, digest"
        return [Taken(File(*file), first) for *file, first in await self._pool.rows(query, {"build": label})]

    async def that_took(self, targets: Sequence[str]) -> list[str]:
        """See Builds."""
        query = "SELECT DISTINCT build FROM build_files WHERE target = ANY(%(targets)s) ORDER BY build"
        return [label for [label] in await self._pool.rows(query, {"targets": list(targets)})]


def _build(row: Row) -> Build:
    label, first, last, indexes, files, size = row
    return Build(label, first, last, tuple(indexes), files, size)


async def _add(parts: dict[str, PartOfBuild], connection: Connection) -> list[Row]:
    async with connection.transaction():
        for build, part in parts.items():
            await connection.execute(_ADD_BUILD, {"build": build, "first": part.first, "last": part.last})
            await connection.execute(_ADD_INDEXES, {"build": build, "indexes": part.indexes})
            files = [taken.file for taken in part.files]
            columns = {
                "names": [file.through for file in files],
                "pins": [file.pin for file in files],
                "urls": [file.url for file in files],
                "targets": [file.target for file in files],
                "digests": [file.digest for file in files],
                "sizes": [file.size for file in files],
                "privates": [file.is_private for file in files],
                "clients": [file.client for file in files],
                "firsts": [taken.first for taken in part.files],
            }
            await connection.execute(_ADD_FILES, {"build": build, **columns})
        return []
