"""Text for terminals: columns, errors in one line, sizes and times that people read."""

import jax
import pytest

from jft.utils.text import aligned, human_bytes, human_seconds, one_line


def test_columns_are_level():
    assert aligned([("", "n"), ("one", "10"), ("three", "7")], right=(1,)) == ["        n", "one    10", "three   7"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no\n  such thing"), "no such thing"),
        (OSError(28, "No space left"), "[Errno 28] No space left"),
        (jax.errors.JaxRuntimeError("Out of memory\nand pages more"), "Out of memory"),
        (ValueError(), "ValueError"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_an_error_is_one_line(error, line):
    assert one_line(error) == line


def test_sizes_and_times():
    assert [human_bytes(n) for n in (4e5, 1.26e6, 2.5e9)] == ["0.4 MB", "1.3 MB", "2.5 GB"]
    assert [human_seconds(n) for n in (0.6, 99, 100, 5400, 9000)] == ["1 s", "99 s", "2 min", "90 min", "2.5 h"]
