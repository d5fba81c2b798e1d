"""The parts of a report: facts, curves, and images with their predictions."""

import base64
import collections
import dataclasses
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from markupsafe import Markup
from PIL import Image

from jft.data import datasets
from jft.data.record import DataRecord
from jft.data.source import Source
from jft.evaluation import evaluate, gallery, gradcam, results
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.predictor import Predictor
from jft.evaluation.report import charts, repeated
from jft.metrics import calibration
from jft.models.flops import stage_costs
from jft.utils import tree
from jft.utils.ranking import best_step
from jft.utils.text import named_step, share_of

IMAGES = 10  # in the grid, among the largest losses, among labels that look wrong
_NEIGHBOURS = 3
_SECONDS = 60  # limit for extracting features of training images, estimated from the speed of the evaluation
_LARGEST_MATRIX = 20  # classes; a larger confusion matrix is wider than a screen


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a page.

    Attributes:
      predictor: the model of the run.
      predicted: the run's outputs on the images that it is evaluated on.
      result: the metrics of that evaluation.
      stage: stage for Grad-CAM.
      data: the images in memory that the run was trained on; None: its config says where they are.
    """

    predictor: Predictor
    predicted: evaluate.Predicted
    result: Mapping[str, Any]
    stage: str
    data: Source | None = None

    @property
    def info(self) -> CheckpointInfo:
        """What the checkpoint says of the run."""
        assert self.predictor.info is not None  # a report is about a run, not about published weights
        return self.predictor.info

    def facts(self, lines: list[dict[str, Any]]) -> dict[str, str]:
        """Model, weights, data and settings of the run, as texts; `lines` of the log."""
        info, spec = self.info, self.predictor.spec
        config, weights = info.config, info.provenance
        held_out = f", {info.num_validated:,} for validation" if info.history else ""
        if folds := info.history and info.history[-1].get("folds"):
            held_out = f", cross-validated, folds: {folds}"
        held_out += " (then also used to refit the head)" if info.learnt_validation else ""
        frames = "squashed to a square" if self.predictor.fit == "whole" else "center crop"
        facts = {
            "Model": f"{info.model}, {self.result['parameters']:,} parameters",
            **(weights.facts() if weights else {"Weights": "none: trained from scratch"}),
            "Data": _data_text(info.trained_on, config["data_dir"]),
            "Images": f"{info.trained_on.count:,} for training{held_out}, {self.result['count']:,} of the "
            f"{self.result['split']} split evaluated here",
            "Classes": ", ".join(self.predictor.class_names[:20])
            + (", ..." if len(self.predictor.class_names) > 20 else ""),
            "Input": f"{spec.size} x {spec.size} pixels, {frames}, {spec.channels}, mean {_numbers(spec.mean)}, "
            f"standard deviation {_numbers(spec.std)} after x {spec.scale:.4g}",
            "Checkpoint": self._checkpoint(lines),
            "Skipped steps": ", ".join(map(str, info.skipped or ())),
            "Seed": str(config["seed"]),
            "Trained with": f"jft {info.jft}, JAX {info.jax}, {math.prod(info.devices.values())} x {info.device_kind}",
        }
        return {name: text for name, text in facts.items() if text}

    def _checkpoint(self, lines: list[dict[str, Any]]) -> str:
        info = self.info
        if info.config["solver"] != "steps":
            return f"head fitted by {info.config['solver']}"
        step, best = named_step(info.step, info.phase_of()), self._best(lines)
        if best in (None, info.step):
            return step + (", best on validation" if info.history else "")
        return f"{step}; the best on validation, {named_step(best, info.phase_of(best))}, cannot be read"

    def _best(self, lines: list[dict[str, Any]]) -> int | None:
        """The step that is best on validation, from the log: its checkpoint may be damaged or deleted."""
        return best_step(line for line in lines if line["kind"] == "validation")

    def early(self, lines: list[dict[str, Any]]) -> str:
        """A note if the best checkpoint is from a phase before the last, else ''."""
        info = self.info
        kept, validated = info.phase_of(), [line["step"] for line in lines if line["kind"] == "validation"]
        if not kept or not validated or info.phase_of(validated[-1]) == kept or self._best(lines) != info.step:
            return ""
        return (
            f"Metrics are of {named_step(info.step, kept)}: validation was best here, so layers unfrozen later are "
            "still at their pretrained values."
        )

    def stages(self) -> list[dict[str, Any]]:
        """Each stage: the shape of its output, its number of parameters, and how many of its leaves are pretrained."""
        loaded = {name.removeprefix("params/") for name in self.info.pretrained}
        leaves = tree.flatten(self.predictor.variables["params"])
        own = collections.defaultdict(set)
        for leaf in leaves:
            own[leaf.split("/", 1)[0]].add(leaf)
        return [
            {
                "name": name,
                "output": " x ".join(map(str, cost.output)),
                "parameters": sum(leaves[leaf].size for leaf in own[name]),
                "source": share_of(own[name] & loaded, own[name], "pretrained", nothing="initialized"),
            }
            for name, cost in stage_costs(self.predictor.model, self.predictor.spec.size).items()
            if cost.after is None
        ]

    def phases(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What was frozen and trainable, and until which step, according to the log."""
        rows: dict[tuple, dict[str, Any]] = {}
        for line in lines:
            if line["kind"] == "train":
                settings = {key: line[key] for key in ("phase", "boundary", "learning", "batch_norm")}
                rows[tuple(settings.values())] = {**settings, "last": line["step"]}
        return list(rows.values())

    def charts(self, lines: list[dict[str, Any]], evaluated: float) -> dict[str, Markup]:
        """Title -> SVG."""
        found = {}
        stepped = [line for line in lines if line["kind"] == "train" and "loss" in line]
        if stepped:
            shown = [line for line in lines if line["kind"] == "validation"] + stepped
            found["Loss"] = charts.curves(shown, "loss", "loss in nats")
            found["Accuracy"] = charts.curves(shown, "accuracy", "accuracy")
            for name in self.result.get("metrics", ()):
                found[name] = charts.curves(shown, name, name)
            if all("learning_rate" in line for line in stepped):  # a custom optimizer may set its own
                found["Learning rate"] = charts.curves(stepped, "learning_rate", "learning rate")
            found["Trainable parameters"] = charts.trainable_parameters(stepped, self.result["parameters"])
        found["Reliability"] = charts.reliability(*self._reliability())
        waiting = sum(line["waiting"] * line["seconds"] for line in stepped)
        took = collections.Counter()
        for line in lines:
            took[line["kind"]] += line.get("seconds", 0)
        spent = {
            "reading": took["reading"],
            "compilation": took["compilation"],
            "features of frozen stages": took["features"],
            "steps": took["train"] - waiting,
            "waiting for input": waiting,
            "validation": took["validation"],
            "saving": took["checkpoint"],
            f"{self.result['split']} images": evaluated,
        }
        found["Time spent"] = charts.times({name: value for name, value in spent.items() if value > 0.05})
        return {title: Markup(svg) for title, svg in found.items()}

    def _reliability(self) -> tuple[calibration.Reliability, calibration.Reliability | None]:
        found, true = self.predicted.found, self.predicted.source.labels
        before, calibrated = calibration.reliability(found.probabilities, true), self.predicted.calibrated
        return before, None if calibrated is None else calibration.reliability(calibrated, true)

    def grid(self) -> list[dict[str, Any]]:
        """Ten images, spread evenly over the evaluated split, with their predictions."""
        rows = np.linspace(0, len(self.predicted.source) - 1, min(IMAGES, len(self.predicted.source))).round()
        return [self._card(self.predicted.source, row) | self._prediction(row) for row in rows.astype(int).tolist()]

    def matrix(self) -> list[dict[str, Any]]:
        """Rows of the confusion matrix with the shade of each cell; [] if it is too large for a screen."""
        names = self.predictor.class_names
        if "confusion_matrix" not in self.result or len(names) > _LARGEST_MATRIX:
            return []
        counts = np.array(self.result["confusion_matrix"])
        shades = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # shares of the true class
        return [
            {"name": name, "cells": [{"count": int(n), "shade": float(s)} for n, s in zip(row, shade, strict=True)]}
            for name, row, shade in zip(names, counts, shades, strict=True)
        ]

    def losses(self, train: Source, known: np.ndarray) -> list[dict[str, Any]]:
        """The images with the largest losses, their Grad-CAM, and the most similar training images."""
        source, worst = self.predicted.source, self.result["top_losses"]
        rows = [one["row"] for one in worst]
        images = [source.pixels(row, self.predictor.spec) for row in rows]
        classes = self.predicted.found.probabilities[rows].argmax(axis=1)
        heat = gallery.heat_maps(self.predictor, images, classes, self.stage)
        near = np.zeros((len(rows), 0), np.int64)
        if len(train):
            near = gallery.like(self.predictor, images, known, min(_NEIGHBOURS, len(train)))
        cards = []
        for one, pixels, chosen, cam, neighbors in zip(worst, images, classes, heat, near, strict=True):
            seen = gallery.shown(self.predictor, pixels)
            cards.append(
                one
                | self._card(source, one["row"])
                | {
                    "label": one["label"] or "none",
                    "predicted": one["predicted"] or "none",
                    "explained": self.predictor.class_names[chosen],
                    "overlay": _data_uri(gradcam.overlay(seen, cam)),
                    "neighbors": [self._card(train, row) for row in neighbors.tolist()],
                }
            )
        return cards

    def suspects(self, train: Source, known: np.ndarray) -> list[dict[str, Any]]:
        """Training images whose label looks wrong."""
        if not len(train) or train.multi_label:
            return []
        try:
            found = gallery.suspects(known, train)
        except ValueError as error:  # such as a class of one image
            logging.warning("the report has no suspicious labels: %s", error)
            return []
        names = self.predictor.class_names
        return [
            self._card(train, suspect.row)
            | {
                "suggested": names[suspect.suggested],
                "probability": suspect.suggested_probability,
                "own": suspect.probability,
            }
            for suspect in found[:IMAGES]
        ]

    def known(self, speed: float) -> tuple[Source, np.ndarray]:
        """A sample of the training images, as many as fit in a minute, and their features; none if they are gone."""
        try:
            train = datasets.sample(
                self.predicted.trained.images("train", dataset=self.data), max(200, round(speed * _SECONDS))
            )
            return train, gallery.features(self.predictor, train)
        except (ValueError, OSError) as error:
            logging.warning("the report has no training images: %s", error)
            return self.predicted.source.take(np.zeros(0, np.int64)), np.zeros((0, 1), np.float32)

    def repeated(self, train: Source, known: np.ndarray) -> dict[str, Any]:
        """Images that occur more than once, see `repeated.of_run`; `train` and `known` from `known`."""
        near, source = [], self.predicted.source
        if len(train) and self.info.config["solver"] != "steps":
            near = repeated.similar(gallery.features(self.predictor, source), known)
        return repeated.of_run(self.predicted, self.data, self._card, near, train)

    def _prediction(self, row: int) -> dict[str, Any]:
        probabilities, source = self.predicted.found.probabilities[row], self.predicted.source
        name = results.predicted_name(probabilities, self.predictor.class_names, several=source.multi_label)
        return {
            "predicted": name or "none",
            "probability": float(probabilities.max()),
            "right": name == source.label(row),
        }

    def _card(self, source: Source, row: int) -> dict[str, Any]:
        return {
            "image": _data_uri(gallery.shown(self.predictor, source.pixels(row, self.predictor.spec))),
            "name": Path(source.image_name(row)).name,
            "label": source.label(row) or "none",
        }


def _data_text(record: DataRecord, data_dir: str) -> str:
    """The training data: name, place and, if known, digest."""
    name = f"{record.dataset}{f' in {data_dir}' if data_dir else ''}" if record.dataset else f"{record.name}, in memory"
    return f"{name}; digest of the training images {record.digest}" if record.digest else name


def _data_uri(pixels: np.ndarray) -> str:
    """An image as a data URI: PNG for small ones, JPEG for photographs."""
    small = max(pixels.shape[:2]) <= 64
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **({"format": "PNG"} if small else {"format": "JPEG", "quality": 82}))
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
