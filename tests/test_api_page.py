"""docs/api.md: its examples run as they stand, and it names everything that `import jft` gives."""

import inspect
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jft

PAGE = (Path(__file__).parent.parent / "docs/api.md").read_text()


@pytest.fixture(scope="module")
def namespace(tmp_path_factory, quick):
    """What the examples leave behind, run one after another in a folder of their own."""
    names = {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S):
            exec(compile(block, "docs/api.md", "exec"), names)
        names["folder"] = Path.cwd()
    return names


def test_the_examples_do_what_they_say(namespace):
    folder, run = namespace["folder"], namespace["run"]
    assert run.evaluate()["count"] == 18 and type(namespace["again"]) is type(run) is jft.TrainedRun
    assert [(folder / name).exists() for name in ("images.png", "curves.png", "exported", "shapes.safetensors")] == [
        True
    ] * 4
    assert int(namespace["state"].step) == 5
    saved = jft.load(folder / "shapes.safetensors")
    np.testing.assert_allclose(saved.predict(namespace["images"]), run.predict(namespace["images"]), atol=1e-6)


def test_a_loop_of_one_s_own_leaves_frozen_leaves_alone(namespace):
    before, after = namespace["model"].variables["params"], namespace["state"].params
    same = jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), before, after)
    assert all(jax.tree.leaves([same["block1"], same["block2"]])) and not any(jax.tree.leaves(same["head"]))


def test_every_name_has_its_signature_there():
    for name in jft.__all__:
        if inspect.isfunction(getattr(jft, name)):
            given = re.search(rf"`jft\.{name}\(([^`]*)\)`", PAGE)
            assert given, f"jft.{name} is not on the page"
            known = inspect.signature(getattr(jft, name)).parameters
            told = re.findall(r"(?:^|, )\**(\w+)", given[1])
            assert set(told) <= set(known), name


def test_what_train_refuses(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'epochs'"):
        jft.train(epoch=3, workdir=tmp_path / "run")
    with pytest.raises(ValueError, match="is no run: give it data"):
        jft.evaluate(jft.create_model("vgg_tiny", weights="digits04"))
