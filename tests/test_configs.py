"""Every file in configs/, and every arm of it, makes a run without data or weights: its phases, and what learns."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from jft.cli.config_file import read_config
from jft.config import arm_config, default_config
from jft.data import datasets
from jft.models import MODELS, abstract_variables
from jft.training.run import create_run
from jft.utils import tree
from jft.weights import catalog

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
CLASSES = {"cifar10": 10, "gtsrb": 43, "digits": 10, "cats_vs_dogs": 2, "flowers": 5}

TINY = 448 + 4_640 + 18_496 + 65_600 + 4_160  # vgg_tiny's three convolutions, fc6 and fc7

# Parameters that learn in each phase of each arm, known from elsewhere or counted by hand.
LEARNING = {
    "bottleneck_cifar10": [[40_970], [20_490], [20_490]],
    "bottleneck_gtsrb": [[4_097 * 43], [2_049 * 43], [2_049 * 43]],
    "cats_vs_dogs_cnn": [[23_963_777]],
    "cats_vs_dogs_squeezenet": [[513], [513, 602_080 + 513]],
    "cats_vs_dogs_vgg16": [[4_097]],
    "digits04": [[TINY + 65 * 5]],
    "few_gtsrb": [[513 * 43]] * 2,
    "few_resnet18": [[2_570]],
    "few_squeezenet": [[5_130]] * 3,
    "flowers_squeezenet": [[2_565], [2_565, 602_080 + 2_565]],
    "flowers_vgg16": [[4_097 * 256 + 257 * 5]],
    "gtsrb_alexnet": [[4_097 * 43]],
    "gtsrb_squeezenet": [[513 * 43], [513 * 43, 722_496 + 513 * 43]],
    "inception_v3_cifar10": [[23_834_568 - 2_049 * 990]],
    "quickstart": [[TINY + 65 * 5], [TINY + 65 * 5 - 448 - 4_640], [TINY + 65 * 5]],
    "resnet18_cifar10": [[8_393_728 + 5_130]],
    "resnet50_cifar10": [[14_964_736 + 20_490]],
    "squeezenet_cifar10": [[5_130]],
    "squeezenet_cifar10_finetune": [[722_496 + 5_130]],
    "squeezenet_probe_cifar10": [[5_130]],
    "vgg16_cifar10": [[40_970]],
    # All of VGG16 with ten classes but block1, block2 and block3.
    "vgg16_cifar10_finetune": [[134_301_514 - 38_720 - 221_440 - 1_475_328]],
    "vgg19_cifar10": [[40_970]],
    "vgg19_cifar10_full": [[139_611_210]],
}


def images(config, name):
    """9,000 of one pixel, of as many classes as the config's data have."""
    classes = CLASSES[config.dataset] if config.dataset in CLASSES else CLASSES[name.rsplit("_", 1)[0]]
    names = [str(c) for c in range(classes)]
    return datasets.from_arrays(np.zeros((9000, 1, 1, 3), np.uint8), np.arange(9000) % classes, names)


def arms(config):
    return [arm_config(config, name, changes) for name, changes in config.arms] or [config]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_arm_makes_a_run(tmp_path, path):
    config = read_config(path)
    learning = []
    for arm in arms(config):
        run = create_run(arm, tmp_path / "run", images(arm, path.stem))
        leaves = tree.flatten(abstract_variables(run.model, run.spec.size)["params"])
        learning.append(
            [
                sum(math.prod(leaf.shape) for name, leaf in leaves.items() if name not in phase.plan.frozen)
                for phase in run.phases
            ]
        )
        assert run.phases[0].first == 0 and all(phase.num_steps > 0 for phase in run.phases)
        steps = arm.steps or round(arm.epochs * len(run.train_source) / arm.batch_size)
        if not arm.phases:  # which have lengths of their own
            assert run.num_steps == (1 if arm.solver != "steps" else steps)
    assert learning == LEARNING[path.stem]
    counts = [int(text.replace(",", "")) for text in re.findall(r"([\d,]+) parameters", load_doc(path))]
    assert {*counts} <= {count for phases in learning for count in phases}


def load_doc(path):
    return path.read_text().split('"""')[1]


def test_the_counts_are_of_configs_that_there_are():
    assert LEARNING.keys() == {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_its_docstring_says_how_to_run_it(path):
    text = load_doc(path)
    assert re.search(rf"python scripts/(train\.py --config|compare\.py) configs/{path.name}", text)
    for file in re.findall(r"(?:scripts|configs)/\w+\.py", text):
        assert (ROOT / file).is_file()
    assert {*re.findall(r"--config\.(\w+)", text)} <= {*default_config()}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_is_short_and_names_what_exists(path):
    config = read_config(path)
    assert config.is_locked
    for arm in arms(config):
        assert arm.model in MODELS
        if arm.weights:
            catalog.find_row(arm.model, arm.weights)
    overrides = [line for line in path.read_text().splitlines() if line.startswith("    config.")]
    assert len(overrides) <= 15
