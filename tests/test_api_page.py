"""docs/api.md: its examples run as they stand, and it names everything that `import jft` gives."""

import functools
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


@pytest.mark.parametrize("name", [*jft.__all__, *(f"data.{name}" for name in jft.data.__all__)])
def test_the_page_has_every_name_and_its_whole_signature(name):
    function = functools.reduce(getattr, name.split("."), jft)
    if not inspect.isfunction(function):
        assert name == "__version__" or name.rpartition(".")[2] in PAGE
        return
    written = re.search(rf"`jft\.{name}(\([^`]*\))`", PAGE)
    assert written, f"jft.{name} is not on the page"
    parameters = inspect.signature(function).parameters.values()
    known = inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters])
    assert " ".join(written[1].split()).replace('"', "'") == str(known)


def test_what_train_refuses(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'epochs'"):
        jft.train(epoch=3, workdir=tmp_path / "run")
    with pytest.raises(ValueError, match="is no run: give it data"):
        jft.evaluate(jft.create_model("vgg_tiny", weights="digits04"))
