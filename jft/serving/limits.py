"""What a server takes from strangers, and what it says to the rest."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of one server.

    Attributes:
      body: bytes of one request.
      bodies: bytes of all requests that are being read or answered.
      images: in one request.
      pixels: of one image, by its header, before it is decoded.
      queue: images that are being decoded or wait for the model, of all requests.
      head: seconds for the head of a request to come, from the connection or the answer before it.
      reading: seconds for its body to come.
      answering: seconds from there to its answer.
      sending: seconds for the client to read a piece of it, of about 64 KiB.
      connections: that are open at a time.
    """

    body: int = 16 * 2**20
    bodies: int = 128 * 2**20
    images: int = 32
    pixels: int = 25_000_000
    queue: int = 256
    head: float = 10.0
    reading: float = 15.0
    answering: float = 30.0
    sending: float = 60.0
    connections: int = 512


class Refused(Exception):
    """A request that is answered with an error.

    Attributes:
      status: of HTTP.
      reason: for people.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Held:
    """Counts what all requests together hold of something, such as bytes, and refuses more than there may be."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what, self.now = most, what, 0

    def take(self, count: int) -> None:
        """Takes some, to be given back by `give`; `Refused` with 429 if there are not as many."""
        if self.now + count > self._most:
            raise Refused(429, f"the server is busy: it takes {self._most:,} {self._what} at a time. Try again.")
        self.now += count

    def give(self, count: int) -> None:
        """Gives some back."""
        self.now -= count
