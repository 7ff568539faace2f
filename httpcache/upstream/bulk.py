"""Reads the bulk of a large response body from its connection directly, past httpcore and h11.

These copy each piece of a body three times and pass it through four generators, although nothing in a body of known
length has to be parsed: its bytes are only counted. So they are counted here, all but the last ones. These go through
h11 again, which decides where the body ends, whether it was cut off, and if the connection may be used again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import h11._readers
import httpcore

from .network_backend import READ


class Body:
    """The body of an HTTP/1.1 response, as a stream for httpcore."""

    def __init__(self, stream: Any, connection: httpcore.AsyncHTTP11Connection, timeout: float | None) -> None:
        """`stream` is the body as httpcore reads it; `timeout` in seconds is for one read."""
        self._stream = stream
        self._connection = connection
        self._timeout = timeout

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # What framing a body has is for h11 to say, as there is more than one header that speaks of it.
        reader: Any = self._connection._h11_state._reader
        counts = isinstance(reader, h11._readers.ContentLengthReader)
        async for piece in self._stream:
            yield piece  # all that h11 had, as long as something remains: the next byte is still in the socket
            while counts and reader._remaining > READ and (piece := await self._read()):
                reader._remaining -= len(piece)
                yield piece

    async def _read(self) -> bytes:
        """Return at most READ bytes, and none if the connection has ended, which h11 will find too."""
        return await self._connection._network_stream.read(READ, timeout=self._timeout)

    async def aclose(self) -> None:
        """End the response, and the connection unless all of the body was read."""
        await self._stream.aclose()
