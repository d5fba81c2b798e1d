"""Runs to look into, each trained once in a worker: they make mistakes, and have names that each output must escape."""

import csv

import numpy as np
import small_digits
from PIL import Image

from jft.data import digits
from jft.evaluation.report import write_report
from jft.training.loop import train

CLASSES = ("""<b>&"'""", "6 | `six`\x1b[31m\u202e$x^$", "7")  # of the digits 5, 6 and 7
LABELS = ("<i>large", "even", "small")  # of images with several, in natural order
_made = {}


def _once(name, make):
    if name not in _made:
        _made[name] = make()
    return _made[name]


def home(factory):
    """Folder of all runs."""
    return _once("home", lambda: factory.mktemp("runs"))


def embedded(count, classes):
    """The first digits of each class: uint8 [n, 8, 8, 3] and int [n]."""
    _, readers = digits.find()
    images, labels = readers["train"]()[:2]
    rows = np.concatenate([np.flatnonzero(labels == label)[:count] for label in classes])
    return images[rows], labels[rows]


def images(factory):
    """A folder of class folders: 50 images of each of `CLASSES`, that are the digits 5, 6 and 7."""

    def make():
        place = home(factory) / "data & <images>"
        images, labels = embedded(50, (5, 6, 7))
        for name in CLASSES:
            (place / name).mkdir(parents=True)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(place / CLASSES[label - 5] / f"{i:03}.png")
        return place

    return _once("images", make)


def listed(factory):
    """A CSV file of 100 images with one or two of `LABELS`."""

    def make():
        place = home(factory) / "listed"
        place.mkdir()
        images, digit = embedded(10, range(10))
        with (place / "list.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "labels"))
            for i, (image, label) in enumerate(zip(images, digit, strict=True)):
                Image.fromarray(image).save(place / f"{i:03}.png")
                names = [*["even"] * int(label % 2 == 0), "<i>large" if label > 4 else "small"]
                writer.writerow((f"{i:03}.png", "|".join(names)))
        return place / "list.csv"

    return _once("listed", make)


def config(factory, name):
    """Of the run of this name."""
    own = {
        "steps": {
            **{"dataset": "folder", "data_dir": str(images(factory)), "classes": (), "batch_size": 30},
            **{"steps": 8, "learning_rate": 3e-3, "log_every": 2, "seed": 1},
        },
        "other": {
            **{"dataset": "folder", "data_dir": str(images(factory)), "classes": ()},
            **{"solver": "ridge", "examples_per_class": 1},
        },
        "binary": {"classes": ("5", "8"), "loss": "sigmoid", "solver": "ridge", "examples_per_class": 1},
        "several": {
            **{"dataset": "csv", "data_dir": str(listed(factory)), "classes": (), "loss": "sigmoid"},
            **{"validation": 0, "steps": 3, "batch_size": 20, "log_every": 1},
        },
    }[name]
    return small_digits.make(home(factory) / "features", **own)


def run(factory, name):
    """Folder of a run: 'steps', two epochs of them; 'other', solved for, of
    the same images; 'binary', solved for; 'several' labels, without validation."""

    def make():
        with small_digits.quick():
            train(config(factory, name), home(factory) / name)
        return home(factory) / name

    return _once(name, make)


def page(factory, name):
    """`report.html` of a run."""

    def make():
        with small_digits.quick():
            return write_report(run(factory, name))[0]

    return _once(f"page of {name}", make)
