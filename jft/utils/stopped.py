"""What is raised where a signal ended something that is to be resumed."""


class Stopped(Exception):
    """A signal ended something that keeps what it has computed: the same call goes on.

    Attributes:
      signal: its number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {int(signal)}")
        self.signal = int(signal)
