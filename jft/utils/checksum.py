"""A checksum inside a JSON object, to detect whether it has changed since it was written.

It guards against accidents, such as a flipped bit in a number, which is JSON all the same; not against forgery. What
has none is taken as it is: files of earlier versions have none.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

KEY = "crc32"


def added(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object with a checksum of all its other items.

    Args:
      value: JSON-able, with text as keys.
    """
    plain = removed(dict(value))
    return {**plain, KEY: _crc32(json.loads(json.dumps(plain)))}


def damage(value: Any) -> str | None:
    """Why a JSON object is not as it was written; None if its checksum matches, or it has none."""
    if not isinstance(value, dict) or KEY not in value or value[KEY] == (crc := _crc32(removed(value))):
        return None
    return f"its {KEY} is {value[KEY]!r}, and what it holds gives {crc}: it was changed or damaged"


def removed(value: Any) -> Any:
    """The object without its checksum; any other value unchanged."""
    return {name: inner for name, inner in value.items() if name != KEY} if isinstance(value, dict) else value


def _crc32(plain: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())
