"""The table at the start of a run: what it says of each stage, and what it says a step costs."""

import pytest

from jft.models import abstract_variables, create_model
from jft.training.freeze import make_plan
from jft.training.stage_table import transfer_table
from jft.utils import tree


def make_table(model, freeze, size, loaded=()):
    shapes = abstract_variables(model, size)
    text = transfer_table(model, shapes, make_plan(model, shapes, freeze), loaded, size, (16, 32))
    return text, {line.split()[0]: line.split() for line in text.splitlines()}


def test_table_says_what_is_trainable_and_where_it_came_from():
    model = create_model("vgg16", num_classes=1)
    names = tree.flatten(abstract_variables(model, 224)["params"])
    loaded = [f"params/{name}" for name in names if not name.startswith("head")]
    text, lines = make_table(model, "fc7", 224, loaded)
    assert lines["block1"][1:-1] == ["112", "x", "112", "x", "64", "38,720", "no", "pretrained"]
    assert lines["head"][1:] == ["1", "4,097", "yes", "initialized", "0.0"]
    assert "134,264,641: 4,097 trainable, 134,260,544 frozen." in text
    # Twice the 15,466,172,416 multiply-adds, and those of the head once more by parameters and by activations;
    # three times that where nothing is frozen.
    assert "about 30.93 GFLOPs per image (92.80 if nothing were frozen)" in text
    assert "Optimizer state: 0.0 MB" in text


def test_part_of_a_stage():
    _, lines = make_table(create_model("vgg_tiny"), "block2/.*/bias", 32, ["params/head/head/bias"])
    assert lines["block2"][-6:-1] == ["1", "of", "2", "leaves", "initialized"]
    assert lines["head"][-6:-1] == ["yes", "1", "of", "2", "pretrained"]


@pytest.mark.parametrize(
    ("freeze", "trainable", "step"),
    [
        # The stages take 3.003 GFLOPs forward, those up to 4a 1.877 and up to 4d 2.459; frozen they run forward alone.
        # aux1 takes 0.0083 and aux2 0.0084, three times, being trained, where they run: not on a frozen prefix.
        ("", ["yes", "yes"], "9.06"),
        ("4a", ["no", "yes"], "5.28"),
        ("4d", ["no", "no"], "4.09"),
    ],
)
def test_auxiliary_heads_cost_what_training_makes_of_them(freeze, trainable, step):
    text, lines = make_table(create_model("googlenet", aux_heads=True), freeze, 224)
    assert [line.split()[0] for line in text.splitlines()][4:7] == ["4a", "aux1", "4b"]
    assert lines["aux1"][1:4] == ["(in", "training", "only)"]
    assert [lines["aux1"][-3], lines["aux2"][-3]] == trainable
    assert [lines["aux1"][-1], lines["aux2"][-1]] == ["8.3", "8.4"]
    assert f"Training step: about {step} GFLOPs per image (9.06 if nothing were frozen)." in text
