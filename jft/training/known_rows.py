"""fresh_head = False: the head keeps what the weights know of the classes that they share with the images, by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jft.data import imagenet
from jft.data.names import normal
from jft.evaluation.open_model import SourceWeights, open_source
from jft.training.run import Run
from jft.utils import distributed, tree
from jft.utils.option_names import option

_ROWS = ("params/head/head/kernel", "params/head/head/bias")  # classes are their last axis


def check(run: Run) -> None:
    """Raises a ValueError where no row can be kept: the head is solved for, or has no row for each class."""
    if run.config.fresh_head:
        return
    if run.phases[0].solved:
        raise ValueError(
            f"fresh_head = False keeps rows of the head, and solver = {run.phases[0].config.solver!r} of phase "
            f"{run.phases[0].name!r} replaces them: leave one of them out."
        )
    if run.objective.num_outputs != len(run.train_source.class_names):
        raise ValueError(
            f"fresh_head = False keeps a row for each class, and loss = {run.config.loss!r} has "
            f"{run.objective.num_outputs} output for {len(run.train_source.class_names)} classes: set loss = 'softmax'."
        )


def keep(run: Run, variables: Mapping[str, Any], weights_path: str | None) -> dict[str, Any]:
    """The initial variables with the head's rows of known classes taken from the weights, bit for bit; says which.

    Hidden layers of the head, whose output the rows read, come from the weights as well.

    Args:
      run: the run.
      variables: `{'params', 'batch_stats'}` with a fresh head.
      weights_path: file or folder of the weights, as `pretrained.overlay` takes it.

    Raises:
      ValueError: the weights have no head, do not name its classes, or share none; or their head reads something else.
    """
    path = Path(weights_path).expanduser() if weights_path else None
    assert run.row is not None  # see the field's `needs`
    file = path if path and path.is_file() else None
    opened = (
        open_source(str(file), model=run.row.model) if file else open_source(run.row.name, weights_path=weights_path)
    )
    source, leaves = file.name if file else run.row.name, opened.read(False)
    names = _class_names(opened, leaves, source)
    ours = [normal(name) for name in run.train_source.class_names]
    known = [name for name in ours if name in names]
    if not known:
        raise ValueError(
            f"fresh_head = False keeps the rows of known classes, and {source} knows none of {', '.join(ours[:10])}: "
            f"its classes are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}. Leave "
            f"{option('fresh_head')} out."
        )
    flat = tree.flatten(variables)
    for name, leaf in flat.items():
        if not name.startswith("params/head/"):
            continue
        there = leaves.get(name)
        own = leaf.shape[:-1] if name in _ROWS else leaf.shape
        if there is None or (there.shape[:-1] if name in _ROWS else there.shape) != own:
            shape = "nothing" if there is None else list(there.shape)
            raise ValueError(
                f"fresh_head = False: {name} is {list(leaf.shape)}, and {source} has {shape} there: make the head as "
                f"it was ({option('head')}, {option('head_hidden')}, {option('cut')}), or leave fresh_head out."
            )
        if name not in _ROWS:
            flat[name] = there
            continue
        rows = np.array(leaf)
        for name_of_class in known:
            rows[..., ours.index(name_of_class)] = there[..., names.index(name_of_class)]
        flat[name] = rows
    new = [name for name in ours if name not in known]
    distributed.say(f"The head keeps from {source}: {', '.join(known)}. It begins anew for {', '.join(new) or 'none'}.")
    return {**variables, **tree.unflatten(flat)}  # without BatchNorm, nothing is left of batch_stats


def _class_names(opened: SourceWeights, leaves: Mapping[str, np.ndarray], source: str) -> list[str]:
    """The names of the head's rows."""
    if _ROWS[1] not in leaves:
        raise ValueError(f"fresh_head = False: {source} has no classifying layer: leave fresh_head out.")
    [count] = leaves[_ROWS[1]].shape
    names = opened.class_names or (imagenet.class_names() if count == imagenet.CLASSES else ())
    if len(names) != count:
        raise ValueError(
            f"fresh_head = False keeps rows by the names of their classes, and {source} has {count} rows and names "
            f"{len(names) or 'no'} classes: leave fresh_head out."
        )
    return [normal(name) for name in names]
