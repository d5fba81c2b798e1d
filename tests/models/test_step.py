"""One training step of every family against torch's in float64, leaf by leaf, as jft's flags and XLA's own compile it.

So every gradient that jft writes by hand is tested where XLA fuses it with what comes before and after. The golden is
made by scripts/golden/make_step.py. Deep networks are stepped in float64: in float32 a few of their millions of ReLUs
fall on the other side of zero, which moves gradients by some percent in torch too.
"""

import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hasty import AS_USERS
from on_demand import on_demand
from step_case import CLASSES, CUT, RATE, SIZES, batch, digest, linear_head

from jft.config import default_config
from jft.metrics.losses import Objective
from jft.models import abstract_variables, create_model
from jft.training.freeze import make_plan
from jft.training.optim import make_optimizer
from jft.training.step import Input, TrainState, make_train_step
from jft.utils import tree
from jft.weights import catalog, rules, seeded

# Largest error of a leaf's movement, relative to the movement.
LIMIT = {"float32": 1e-3, "float64": 1e-5}

# What XLA:CPU compiles with where its own default is left alone; jft's flag turns these fusions off.
XLA_OWN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}

# A VGG with BatchNorm has BatchNorm, ReLU and max pool in a row, where XLA fuses the most.
LONG = on_demand("vgg11_bn, and among the long tests resnet18, have what XLA fuses the most")
FAMILIES = [
    ("vgg11_bn", "float32"),
    pytest.param("resnet18", "float32", marks=pytest.mark.slow),
    *(
        pytest.param(name, dtype, marks=LONG)
        for name, dtype in (
            ("squeezenet1_1", "float32"),
            ("alexnet", "float32"),
            ("googlenet", "float64"),
            ("inception_v3", "float64"),
            ("resnet50", "float64"),
        )
    ),
]


@functools.cache
def golden():
    return dict(np.load(pathlib.Path(__file__).parents[1] / "golden" / "step.npz"))


def loaded(name, dtype):
    """The model, its leaves, and torch's name of each leaf."""
    row = catalog.find_row(name, "torchvision")
    options = {key: value for key, value in row.options.items() if key != "num_classes"}
    cut = {"cut": CUT[name], "new_head": "linear"} if name in CUT else {}
    model = create_model(name, num_classes=CLASSES, dtype=jnp.dtype(dtype), **options, **cut)
    shapes = tree.flatten(abstract_variables(model, SIZES[name]))
    whole = create_model(name, **row.options)  # a linear head has no names in torchvision's dialect
    drawn = {leaf: x for leaf, x in shapes.items() if not (name in CUT and leaf.startswith("params/head/"))}
    table = [rule for rule in rules.rules_for(row, whole) if rule.target in drawn]
    tensors = seeded.seeded_torch(rules.source_shapes(table, drawn))
    leaves = {rule.target: rule.transform.forward(*(tensors[source] for source in rule.sources)) for rule in table}
    names = {rule.target: rule.sources[0] for rule in table}
    if name in CUT:
        kernel, bias = linear_head(shapes["params/head/head/kernel"].shape[0])
        leaves |= {"params/head/head/kernel": kernel, "params/head/head/bias": bias}
        names |= {f"params/head/head/{leaf}": f"head.{key}" for leaf, key in (("kernel", "weight"), ("bias", "bias"))}
    assert leaves.keys() == shapes.keys()
    return model, leaves, names


def moved(name, dtype, compiler_options):
    """Torch's name of each leaf -> how far one step of jft moves it."""
    model, leaves, names = loaded(name, dtype)
    leaves = {leaf: np.asarray(x, dtype) for leaf, x in leaves.items()}
    variables = tree.unflatten(leaves)
    variables = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    plan = make_plan(model, variables, "")
    config = default_config()
    config.update({"optimizer": "sgd", "momentum": 0.9})
    tx = make_optimizer(config, plan.freeze_mask(variables["params"]))
    step = make_train_step(
        model,
        plan,
        tx,
        schedule=lambda _: RATE,
        objective=Objective("softmax", CLASSES),
        inputs=Input(transform=lambda images, _: images),
        seed=0,
    )
    images, labels = batch(name)
    images = np.asarray(images, dtype)
    state = TrainState(step=jnp.int32(0), opt_state=tx.init(variables["params"]), **variables)
    arguments = state, {"image": images, "label": labels, "mask": np.ones(len(labels), bool)}
    after, sums = jax.jit(step).lower(*arguments).compile({**AS_USERS, **compiler_options})(*arguments)
    assert sums["loss"] / sums["count"] == pytest.approx(golden()[f"{name}/loss"], rel=1e-4)
    found = {f"params/{leaf}": x for leaf, x in tree.flatten(after.params).items()}
    found |= {f"batch_stats/{leaf}": x for leaf, x in tree.flatten(after.batch_stats).items()}
    return {names[leaf]: np.float64(x) - leaves[leaf] for leaf, x in found.items()}


@pytest.mark.usefixtures("optimizing_compiler")
@pytest.mark.parametrize(
    "flags", [pytest.param({}, id="jft's flags"), pytest.param(XLA_OWN, id="XLA's own", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("name", "dtype"), FAMILIES)
def test_a_step_moves_every_leaf_as_torch(name, dtype, flags, monkeypatch):
    monkeypatch.setattr(nn.Dropout, "__call__", lambda self, x, **_: x)
    with jax.enable_x64(dtype == "float64"):
        found = moved(name, dtype, flags)
    wanted = dict(zip(golden()[f"{name}/names"].tolist(), golden()[f"{name}/moved"], strict=True))
    # torch's running variances are the unbiased estimates: test_batchnorm.py
    assert {key for key in found if not key.endswith("running_var")} == wanted.keys()
    # A bias before a BatchNorm has no gradient: what moves it is rounding.
    floor = 1e-5 * max(np.linalg.norm(theirs) for theirs in wanted.values())
    errors = {key: error(digest(key, found[key]), theirs, floor) for key, theirs in wanted.items()}
    assert not {key: x for key, x in errors.items() if not x < LIMIT[dtype]}


def error(ours, theirs, floor):
    """Of the norm and of the values, each relative to the movement."""
    of_norm = abs(ours[0] - theirs[0]) / max(theirs[0], floor)
    return max(of_norm, np.linalg.norm(ours[1:] - theirs[1:]) / max(np.linalg.norm(theirs[1:]), floor))
