"""The tables of the PostgreSQL index, and their version."""

from __future__ import annotations

import psycopg

from httpcache.errors import StoreError

from .postgres_connection import Connection, parameters
from .postgres_errors import UPGRADE, mapped

LOCK = 0x68747470_63616368  # the advisory lock of `upgrade`

# Text is compared by its bytes (COLLATE "C"), which for UTF-8 is the order of Python. An address may be longer than
# what fits into a key of a B-tree (2,704 bytes), so the index has its beginning: that sorts like the whole.
#
# The totals of a pin are kept by triggers, in the transaction of the change, like in the SQLite index. One row for each
# pin would be locked by each freeze until its commit is on the disk, and all freezes into a pin would queue up. So the
# totals are a sum over 32 rows at most: a session, which makes one change at a time, adds to the row of its process.
_FIRST = """
CREATE TABLE entries (key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE records (
    key text COLLATE "C" PRIMARY KEY, pin text COLLATE "C" NOT NULL, address text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL, size bigint NOT NULL
);
CREATE INDEX records_of_pin ON records (pin, left(address, 400), key);
CREATE INDEX records_of_body ON records (digest);
CREATE TABLE pins (
    pin text COLLATE "C", slot integer, entries bigint NOT NULL, bytes bigint NOT NULL, PRIMARY KEY (pin, slot)
);
CREATE TABLE bodies (digest text COLLATE "C" PRIMARY KEY, body bytea NOT NULL);
CREATE FUNCTION count_record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    row records := CASE TG_OP WHEN 'INSERT' THEN new ELSE old END;
    sign integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    INSERT INTO pins VALUES (row.pin, pg_backend_pid() % 32, sign, sign * row.size) ON CONFLICT (pin, slot)
        DO UPDATE SET entries = pins.entries + excluded.entries, bytes = pins.bytes + excluded.bytes;
    RETURN NULL;
END $$;
CREATE TRIGGER count_record AFTER INSERT OR DELETE ON records FOR EACH ROW EXECUTE FUNCTION count_record();
"""

# The usage journal (see `usage`). Nothing else refers to it.
_USAGE = """
CREATE TABLE usage_pins (
    pin text COLLATE "C" PRIMARY KEY, hits bigint NOT NULL, bytes bigint NOT NULL,
    first_use double precision NOT NULL, last_use double precision NOT NULL
);
CREATE INDEX usage_pins_by_use ON usage_pins (last_use);
CREATE TABLE usage_entries (
    key text COLLATE "C" PRIMARY KEY, pin text COLLATE "C" NOT NULL, address text NOT NULL, hits bigint NOT NULL,
    bytes bigint NOT NULL, first_use double precision NOT NULL, last_use double precision NOT NULL
);
CREATE INDEX usage_entries_by_use ON usage_entries (pin, last_use, key);
CREATE TABLE usage_readers (
    key text COLLATE "C", client text COLLATE "C", hits bigint NOT NULL,
    first_use double precision NOT NULL, last_use double precision NOT NULL, PRIMARY KEY (key, client)
);
"""

# The Merkle log of the entries of logs (see `leaves`), with a leaf for each that is there. A value has a checksum of 8
# bytes before it (see `seal`).
_LEAVES = """
CREATE TABLE leaves (
    number bigint PRIMARY KEY, is_removal boolean NOT NULL, place bytea NOT NULL, nonce bytea NOT NULL,
    commitment bytea NOT NULL
);
INSERT INTO leaves
    SELECT row_number() OVER (ORDER BY key) - 1, false, place, nonce, sha256(nonce || place || digest) FROM (
        SELECT key, sha256(substr(value, 9)) AS digest, uuid_send(gen_random_uuid()) AS nonce,
            decode(substr(key, 3, 64), 'hex') || int8send(substr(key, 68)::bigint) AS place
        FROM entries WHERE key >= 'l/' AND key < 'l0' AND length(key) = 77
    ) AS logged;
CREATE INDEX leaves_of_place ON leaves (place, number);
CREATE TABLE leaf_count (count bigint NOT NULL);
INSERT INTO leaf_count SELECT count(*) FROM leaves;
"""

# The builds (see `builds`).
_BUILDS = """
CREATE TABLE builds (
    build text COLLATE "C" PRIMARY KEY, first_use double precision NOT NULL, last_use double precision NOT NULL
);
CREATE INDEX builds_by_use ON builds (last_use);
CREATE TABLE build_indexes (build text COLLATE "C", name text COLLATE "C", PRIMARY KEY (build, name));
CREATE TABLE build_files (
    build text COLLATE "C", name text COLLATE "C", pin text COLLATE "C" NOT NULL, url text COLLATE "C" NOT NULL,
    target text COLLATE "C", digest text COLLATE "C", size bigint NOT NULL, is_private boolean NOT NULL,
    client text NOT NULL, first_use double precision NOT NULL, PRIMARY KEY (build, name, target, digest)
);
CREATE INDEX build_files_by_target ON build_files (target, build);
"""

# The records of a pin by size, for the page of the pin.
_SIZES = "CREATE INDEX records_by_size ON records (pin, size, key)"
STEPS = [_FIRST, _USAGE, _LEAVES, _BUILDS, _SIZES]
"""What makes each version of the tables from the one before; the version is the number of steps that were made."""

_STATE = """
SELECT version, current_setting('fsync'), current_setting('synchronous_commit'), pg_backend_pid() FROM schema_version
"""


def upgrade(url: str) -> bool:
    """Make the tables, or those of an older version into those of this one. Returns whether there was anything to do.

    Safe if several do so at once. Raises StoreError: if the tables are of a newer version than this program, too.
    """
    with mapped(), psycopg.connect(**parameters(url)) as connection, connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        [[encoding]] = connection.execute("SELECT current_setting('server_encoding')").fetchall()
        if encoding != "UTF8":
            raise StoreError(f"the index needs a database in UTF8, and this one is in {encoding}")
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)")
        found = connection.execute("SELECT version FROM schema_version").fetchone()
        version: int = found[0] if found else 0
        _refuse_newer(version)
        for step in STEPS[version:]:
            connection.execute(step)
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (%s)", (len(STEPS),))
    return version < len(STEPS)


async def check(connection: Connection) -> None:
    """Raise StoreError with a text that says what to do if a database cannot be used as it is; or psycopg.Error."""
    rows = await (await connection.execute(_STATE)).fetchall()
    version, fsync, synchronous, pid = rows[0] if rows else (0, "on", "on", connection.info.backend_pid)
    _refuse_newer(version)
    if version < len(STEPS):
        raise StoreError(f"the index in PostgreSQL has version {version}, and not {len(STEPS)}: {UPGRADE}")
    if "off" in (fsync, synchronous):
        raise StoreError("PostgreSQL would lose what it has committed: set `fsync` and `synchronous_commit` to on")
    if pid != connection.info.backend_pid:
        raise StoreError("a pooler stands before PostgreSQL, and notifications get lost in it: connect without it")


def _refuse_newer(version: int) -> None:
    if version > len(STEPS):
        raise StoreError(
            f"the index in PostgreSQL has version {version}, which is newer than this program: upgrade httpcache"
        )
