"""Names of a config: what they stand for, which are refused, and when code is imported."""

import sys
import types

import pytest

from jft.utils import registry, tree
from jft.utils.registry import GIVEN, CodeRefusedError, Registry, call_with, code_allowed, name_of


@pytest.fixture
def flavors():
    yield Registry("flavor", "() -> str", {"plain": lambda: "plain", "sour": lambda: "sour"})
    del registry._REGISTRIES["flavor"]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's own, which leaves a mark when it is imported."""
    (tmp_path / "own_flavors.py").write_text(
        "import sys\nsys.own_flavors_ran = True\ndef salty():\n    return 'salt'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(registry, "_imported", {})
    yield "own_flavors"
    sys.modules.pop("own_flavors", None)
    if hasattr(sys, "own_flavors_ran"):
        del sys.own_flavors_ran


def test_a_row_a_function_and_what_is_registered_later_resolve(flavors):
    sweet = lambda: "sweet"  # noqa: E731
    flavors.register("sweet", sweet)
    assert flavors.resolve("sweet") is sweet is flavors.resolve(sweet) is flavors.resolve(GIVEN, sweet)
    assert flavors.resolve("sour")() == "sour" and registry.resolve("flavor", "plain")() == "plain"
    with pytest.raises(ValueError, match=r"flavor 'sour' is one of jft's own"):
        flavors.register("sour", sweet)
    flavors.register("sweet", flavors["sour"])  # the cell of a notebook once more
    assert flavors.resolve("sweet")() == "sour"


def test_a_typo_is_told_with_what_there_is(flavors):
    expected = r"unknown flavor 'sout', did you mean 'sour'\? Known: plain, sour; or your own \(\) -> str, named 'mod"
    with pytest.raises(ValueError, match=expected):
        flavors.resolve("sout")
    assert registry.problems({"flavor": "sout"}) and not registry.problems({"flavor": "any:thing"})


def test_code_is_imported_only_where_it_is_allowed(flavors, module):
    with pytest.raises(CodeRefusedError, match=r"flavor = 'own_flavors:salty' names code.* --allow-code"):
        flavors.resolve(f"{module}:salty")
    with code_allowed(False), pytest.raises(CodeRefusedError):
        flavors.resolve(f"{module}:salty")
    assert not hasattr(sys, "own_flavors_ran")
    with code_allowed():
        assert flavors.resolve(f"{module}:salty")() == "salt"  # found in the working folder
    assert flavors.resolve(f"{module}:salty")() == "salt"  # it ran already


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("own_flavors:salti", "there is no 'salti' in own_flavors, did you mean 'salty'?"),
        ("own_flavours:salty", "importing own_flavours failed .*PYTHONPATH"),
    ],
)
def test_what_cannot_be_imported_says_why(flavors, module, reference, message):
    with code_allowed(), pytest.raises(ValueError, match=message):
        flavors.resolve(reference)


def test_names_of_objects(monkeypatch):
    module = types.ModuleType("given_flavors")
    exec("def salty(): pass\nclass Box:\n    def fill(self): pass\n", module.__dict__)
    monkeypatch.setitem(sys.modules, "given_flavors", module)
    assert name_of(module.salty) == "given_flavors:salty" and name_of(module.Box.fill) == "given_flavors:Box.fill"
    assert name_of("sour") == "sour"
    replaced, module.salty = module.salty, None
    assert name_of(replaced) == GIVEN  # the module holds another by that name
    assert name_of(lambda: 0) == GIVEN and name_of((1, 2)) == GIVEN


def test_what_was_given_in_python_is_needed_again(flavors):
    with pytest.raises(ValueError, match=r"flavor of this run was given in Python .* again as flavor="):
        flavors.resolve(GIVEN)


def test_a_function_asks_for_what_it_needs_by_its_parameters():
    assert call_with(lambda b, c=3, **_: (b, c), {"a": 1, "b": 2}, what="it") == (2, 3)
    with pytest.raises(ValueError, match=r"it needs z, which jft does not give.* jft gives a, b"):
        call_with(lambda z: z, {"a": 1, "b": 2}, what="it")


def test_of_many_names_an_error_lists_those_that_are_near():
    table = {f"resnet{n}": n for n in range(50)} | {"vgg16": 0}
    with pytest.raises(
        ValueError, match=r"unknown model 'vgg', did you mean 'vgg16'\? Near: vgg16; 50 others are known"
    ):
        tree.choose(table, "vgg", what="model")
    with pytest.raises(ValueError, match=r"Near: resnet0, resnet1, .*resnet7; 43 others"):
        tree.choose(table, "?", what="model")
