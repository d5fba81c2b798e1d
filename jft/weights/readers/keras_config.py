"""Reads layer names from the config of a Keras model. The config is parsed as data; nothing in it is executed."""

import collections
import re
from typing import Any


def layer_names(config: Any) -> dict[str, str]:
    """Names of the layers that a file lists by class and number, as Keras wrote them up to 3.5.

    Args:
      config: of a Sequential or Functional model, from `keras_h5.check_config`.

    Returns:
      {'layers/conv2d_1': 'block1_conv2', …}, including nested models; empty if the config has no layers.
    """
    found: dict[str, str] = {}
    left = [("", config)]
    while left:
        path, model = left.pop()
        count: collections.Counter[str] = collections.Counter()
        for layer in _layers(model):
            kind = _snake_case(str(layer.get("class_name")))
            place = f"{path}layers/{kind}" + (f"_{count[kind]}" if count[kind] else "")
            count[kind] += 1
            found[place] = str(_inner(layer).get("name"))
            left.append((f"{place}/", layer))
    # Keras 2.12 called the same `_layer_checkpoint_dependencies`, at the top alone.
    return found | {f"_layer_checkpoint_dependencies{place[6:]}": name for place, name in found.items()}


def _layers(model: Any) -> list[dict[str, Any]]:
    layers = _inner(model).get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _inner(entry: Any) -> dict[str, Any]:
    config = entry.get("config") if isinstance(entry, dict) else None
    return config if isinstance(config, dict) else {}


def _snake_case(name: str) -> str:
    """As keras/src/utils/naming.py."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
