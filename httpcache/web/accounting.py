"""What became of a request: the status of the response, and how many bytes of body were sent."""

from __future__ import annotations

from starlette.types import Message, Scope, Send


class Sent:
    """Passes the messages of a response on, and counts."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.bytes = 0
        self._length = 0

    async def __call__(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._length = int(dict(message["headers"]).get(b"content-length", 0))
        elif message["type"] == "http.response.pathsend":
            self.bytes = self._length
        else:
            self.bytes += len(message.get("body", b""))
        await self._send(message)


def client(scope: Scope) -> str:
    """Return the address of the client of a request, as the server sees it; "" if it does not tell."""
    found = scope.get("client")
    return found[0] if found else ""
