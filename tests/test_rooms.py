"""The rooms of the package, and the order in which they may import one another."""

import ast
from pathlib import Path

import pytest

import jft

PACKAGE = Path(jft.__file__).parent
# A room imports those of the lines above its own, and itself.
ORDER = (
    {"utils"},
    {"config"},
    {"models", "data", "metrics"},
    {"weights"},
    {"features"},
    {"evaluation"},
    {"exporters"},
    {"training"},
    {"serving"},
    {"cli"},
    {"__init__", "__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """(room, names) of every import of jft in a file, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "jft":
            names = [name.name for name in node.names]
            if node.module == "jft":
                yield from ((name, []) for name in names)
            else:
                yield node.module.split(".")[1], names
        elif isinstance(node, ast.Import):
            yield from ((name.name.split(".")[1], []) for name in node.names if name.name.startswith("jft."))


def test_the_top_holds_rooms_and_little_else():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert rooms | {"config"} == set().union(*ORDER[:-1]) and len(rooms) == 11
    assert files <= {"__init__.py", "__main__.py", "config.py", "py.typed"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = room_of(path)
    for room, names in imports(path):
        if own != room:
            assert LEVEL[room] < LEVEL[own], f"{path} of {own} imports {room}"
            assert not [name for name in names if name.startswith("_") and not name.startswith("__")]


@pytest.mark.parametrize("room", sorted(set().union(*ORDER[:-1]) - {"config"}))
def test_a_room_says_what_it_is_for(room):
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
    assert 1 <= len(text.splitlines()) <= 6 and len(text) > 60
