"""Writes jft/data/imagenet_names.txt from torchvision's list (BSD-3-Clause), without torch.

python scripts/make_imagenet_names.py torchvision/models/_meta.py
"""

import ast
import sys
from pathlib import Path

tree = ast.parse(Path(sys.argv[1]).read_text())
names = next(
    ast.literal_eval(node.value)
    for node in tree.body
    if isinstance(node, ast.Assign) and node.targets[0].id == "_IMAGENET_CATEGORIES"
)
assert len(names) == 1000 and not any("\n" in name for name in names)
Path(__file__).parents[1].joinpath("jft", "data", "imagenet_names.txt").write_text("\n".join(names) + "\n")
