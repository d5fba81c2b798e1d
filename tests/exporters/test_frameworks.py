"""torchvision and timm themselves open what was written for them, by the line that says how, and give jft's logits."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import small_files
from on_demand import on_demand

from jft.evaluation import open_model
from jft.exporters import state_dict
from jft.utils import tree
from jft.weights import catalog, seeded

# A network of each family, and the side of the images in pixels; test_timm_repository opens others with timm.
NETWORKS = {
    "torchvision": {
        **dict.fromkeys(("alexnet", "vgg11_bn", "resnet18", "wide_resnet50_2", "resnext50_32x4d", "squeezenet1_1"), 64),
        **dict.fromkeys(("googlenet", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf"), 64),
        **dict.fromkeys(("regnet_y_400mf", "efficientnet_b0", "efficientnet_v2_s", "convnext_tiny"), 64),
        **{"inception_v3": 299, "vit_base_patch32": 224},
    },
    "timm": {
        **dict.fromkeys(
            ("vgg11", "resnet18", "resnext50_32x4d", "densenet121", "mobilenet_v1", "mobilenet_v2_050"), 64
        ),
        **dict.fromkeys(("mobilenet_v3_small", "mobilenet_v4_conv_small", "regnet_x_400mf", "regnet_y_400mf"), 64),
        **dict.fromkeys(("efficientnet_lite0", "efficientnet_v2_b0", "efficientnet_v2_s", "convnext_atto"), 64),
        **{"convnextv2_atto": 64, "inception_v3": 139, "vit_tiny_patch16": 224, "deit3_small_patch16": 224},
    },
}
# Reads [[line that says how to load, file of images, file for logits]], and runs each.
RUN = """
import json, sys
import numpy as np
import safetensors.torch
import torch
# Some builds of torchvision lack the compiled operators that its import asks for.
library = torch.library.Library("torchvision", "DEF")
try:
    torch.ops.torchvision.nms
except AttributeError:
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
framework, jobs = sys.argv[1:]
names = {"safetensors": safetensors, framework: __import__(framework)}
for line, images, out in json.loads(jobs):
    exec(line, names)
    with torch.no_grad():
        np.save(out, names["model"].eval()(torch.from_numpy(np.load(images)).permute(0, 3, 1, 2)).numpy())
"""


@on_demand("test_proofs compares with the frameworks, and test_state_dict reads files again")
@pytest.mark.parametrize("format", NETWORKS)
def test_the_framework_opens_what_was_written(tmp_path, format):
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec(format) is None:
        pytest.skip(f"no {format}")
    jobs, wanted = [], {}
    for name, size in NETWORKS[format].items():
        source, own, out = (tmp_path / f"{name}.{end}.safetensors" for end in ("source", "own", "out"))
        tag = next(row.tag for row in catalog.CATALOG.values() if (row.model, row.dialect) == (name, format))
        small_files.seeded_file(source, name, tag, size)
        open_model.write_own(open_model.open_source(str(source), model=name, tag=tag, image_size=size), own)
        done = state_dict.export(str(own), out, format=format)
        assert done.error == 0, name
        line = state_dict.describe(done).split("\nload: ")[1].split("\n")[0]
        images = seeded.seeded_images(size)
        np.save(tmp_path / f"{size}.npy", images)
        opened = open_model.open_source(str(own))
        logits = opened.build().apply(tree.unflatten(opened.read(False)), images, train=False)
        wanted[name] = np.asarray(logits)
        jobs.append([line, str(tmp_path / f"{size}.npy"), str(tmp_path / f"{name}.npy")])
        source.unlink()
    done = subprocess.run(
        [sys.executable, "-c", RUN, format, json.dumps(jobs)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    errors = {
        name: float(np.max(np.abs(np.load(tmp_path / f"{name}.npy") - logits)) / np.max(np.abs(logits)))
        for name, logits in wanted.items()
    }
    assert all(error < 1e-4 for error in errors.values()), errors
