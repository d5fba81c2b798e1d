"""The parts of a report: facts, curves, images with what the model says of them."""

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
from jft.data.datasets import Source
from jft.data.record import DataRecord, trained_on
from jft.evaluation import evaluate, gallery, gradcam, results
from jft.evaluation.predictor import Predictor
from jft.evaluation.report import charts
from jft.metrics import calibration
from jft.models.flops import stage_costs
from jft.utils import tree
from jft.utils.checkpoint_info import best_step, phase_of
from jft.utils.text import named_step, share_of
from jft.weights import provenance

IMAGES = 10  # in the grid, among the largest losses, among labels that look wrong
_NEIGHBOURS = 3
_SECONDS = 60  # spent at most on features of training images, by the speed of the evaluation
_LARGEST_MATRIX = 20  # classes; a larger confusion matrix is wider than a screen


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a page.

    Attributes:
      predictor: the run.
      predicted: what it makes of the images that it is judged by.
      result: the figures of that.
      stage: whose Grad-CAM is drawn.
    """

    predictor: Predictor
    predicted: evaluate.Predicted
    result: Mapping[str, Any]
    stage: str

    def facts(self, lines: list[dict[str, Any]]) -> dict[str, str]:
        """What was trained on what with which weights, for people; `lines` of the log."""
        meta, spec = self.predictor.meta, self.predictor.spec
        config, weights = meta["config"], provenance.of_manifest(meta["weights"])
        held_out = f", {meta['history'][-1]['count']:,} to validate" if meta["history"] else ""
        held_out += ", which then joined them" if meta.get("learnt_validation") else ""
        frames = "squashed whole" if self.predictor.fit == "whole" else "cropped at the center"
        facts = {
            "Model": f"{meta['model']['name']}, {self.result['parameters']:,} parameters",
            **(weights.facts() if weights else {"Weights": "none: trained from scratch"}),
            "Data": _told_of(trained_on(meta), config["data_dir"]),
            "Images": f"{trained_on(meta).count:,} to train{held_out}, {self.result['count']:,} of the "
            f"{self.result['split']} split to judge by",
            "Classes": ", ".join(self.predictor.class_names[:20])
            + (", ..." if len(self.predictor.class_names) > 20 else ""),
            "Input": f"{spec.size} x {spec.size} pixels, {frames}, {spec.channels}, mean {_numbers(spec.mean)}, "
            f"standard deviation {_numbers(spec.std)} after x {spec.scale:.4g}",
            "Checkpoint": self._checkpoint(lines),
            "Steps left out": ", ".join(map(str, meta.get("skipped", []))),
            "Seed": str(config["seed"]),
            "Trained with": f"jft {meta['jft']}, JAX {meta['jax']}, {math.prod(meta['devices'].values())} x "
            f"{meta['device_kind']}",
        }
        return {name: told for name, told in facts.items() if told}

    def _checkpoint(self, lines: list[dict[str, Any]]) -> str:
        meta = self.predictor.meta
        if meta["config"]["solver"] != "steps":
            return f"its head was solved for by {meta['config']['solver']}"
        step, best = named_step(meta["step"], phase_of(meta)), self._best(lines)
        if best in (None, meta["step"]):
            return step + (", the best by validation" if meta["history"] else "")
        return f"{step}; the best by validation was {named_step(best, phase_of(meta, best))}, which cannot be read"

    def _best(self, lines: list[dict[str, Any]]) -> int | None:
        """The step that validation chose: the log knows it where its checkpoint is damaged or gone."""
        return best_step({"history": [line for line in lines if line["kind"] == "validation"]})

    def early(self, lines: list[dict[str, Any]]) -> str:
        """What is to be said where validation kept a checkpoint of a phase that others followed, else empty."""
        meta = self.predictor.meta
        kept, validated = phase_of(meta), [line["step"] for line in lines if line["kind"] == "validation"]
        if not kept or not validated or phase_of(meta, validated[-1]) == kept or self._best(lines) != meta["step"]:
            return ""
        return (
            f"These figures are those of {named_step(meta['step'], kept)}: none of the later steps did better on "
            "validation, and what only they train is as it was before."
        )

    def stages(self) -> list[dict[str, Any]]:
        """Each stage: its output, its parameters, and how many of them came from the weights."""
        loaded = {name.removeprefix("params/") for name in self.predictor.meta["pretrained"]}
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
        """What was frozen and what learnt, and until which step, by the log."""
        told: dict[tuple, dict[str, Any]] = {}
        for line in lines:
            if line["kind"] == "train":
                known = {key: line[key] for key in ("phase", "boundary", "learning", "batch_norm")}
                told[tuple(known.values())] = {**known, "last": line["step"]}
        return list(told.values())

    def charts(self, lines: list[dict[str, Any]], evaluated: float) -> dict[str, Markup]:
        """Title -> SVG."""
        found = {}
        stepped = [line for line in lines if line["kind"] == "train" and "loss" in line]
        if stepped:
            shown = [line for line in lines if line["kind"] == "validation"] + stepped
            found["Loss"] = charts.curves(shown, "loss", "loss in nats")
            found["Accuracy"] = charts.curves(shown, "accuracy", "accuracy")
            if all("learning_rate" in line for line in stepped):  # an optimizer of the user's own may have its own
                found["Learning rate"] = charts.curves(stepped, "learning_rate", "learning rate")
            found["What learns"] = charts.learning_parameters(stepped, self.result["parameters"])
        found["How sure it is"] = charts.reliability(*self._reliability())
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
        found["Where the time went"] = charts.times({name: value for name, value in spent.items() if value > 0.05})
        return {title: Markup(svg) for title, svg in found.items()}

    def _reliability(self) -> tuple[calibration.Reliability, calibration.Reliability | None]:
        found, true = self.predicted.found, self.predicted.source.labels
        before, calibrated = calibration.reliability(found.probabilities, true), self.predicted.calibrated
        return before, None if calibrated is None else calibration.reliability(calibrated, true)

    def grid(self) -> list[dict[str, Any]]:
        """Ten images, spread evenly over those that the run is judged by."""
        rows = np.linspace(0, len(self.predicted.source) - 1, min(IMAGES, len(self.predicted.source))).round()
        return [self._card(self.predicted.source, row) | self._said(row) for row in rows.astype(int).tolist()]

    def matrix(self) -> list[dict[str, Any]]:
        """Rows of the confusion matrix with the shade of each cell; [] where it does not fit a screen."""
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
        """The largest losses, with where the model looked and what it learnt from that is like them."""
        source, worst = self.predicted.source, self.result["top_losses"]
        rows = [one["row"] for one in worst]
        images = [source.pixels(row, self.predictor.spec) for row in rows]
        classes = self.predicted.found.probabilities[rows].argmax(axis=1)
        heat = gallery.heat_maps(self.predictor, images, classes, self.stage)
        near = np.zeros((len(rows), 0), np.int64)
        if len(train):
            near = gallery.like(self.predictor, images, known, min(_NEIGHBOURS, len(train)))
        told = []
        for one, pixels, chosen, cam, neighbors in zip(worst, images, classes, heat, near, strict=True):
            seen = gallery.shown(self.predictor, pixels)
            told.append(
                one
                | self._card(source, one["row"])
                | {
                    "label": one["label"] or "nothing",
                    "predicted": one["predicted"] or "nothing",
                    "sought": self.predictor.class_names[chosen],
                    "overlay": _data_uri(gradcam.overlay(seen, cam)),
                    "neighbors": [self._card(train, row) for row in neighbors.tolist()],
                }
            )
        return told

    def suspects(self, train: Source, known: np.ndarray) -> list[dict[str, Any]]:
        """Training images whose label looks wrong."""
        if not len(train) or train.multi_label:
            return []
        try:
            found = gallery.suspects(known, train)
        except ValueError as error:  # a class of one image, which no other can judge
            logging.warning("the report does without suspicious labels: %s", error)
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
        """Training images, as many as are read in a minute, and their features; none where they are gone."""
        try:
            train = datasets.sample(self.predicted.trained.images("train"), max(200, round(speed * _SECONDS)))
            return train, gallery.features(self.predictor, train)
        except (ValueError, OSError) as error:
            logging.warning("the report does without training images: %s", error)
            return self.predicted.source.take(np.zeros(0, np.int64)), np.zeros((0, 1), np.float32)

    def _said(self, row: int) -> dict[str, Any]:
        probabilities, source = self.predicted.found.probabilities[row], self.predicted.source
        told = results.said(probabilities, self.predictor.class_names, several=source.multi_label)
        return {
            "predicted": told or "nothing",
            "probability": float(probabilities.max()),
            "right": told == source.label(row),
        }

    def _card(self, source: Source, row: int) -> dict[str, Any]:
        return {
            "image": _data_uri(gallery.shown(self.predictor, source.pixels(row, self.predictor.spec))),
            "name": Path(source.image_name(row)).name,
            "label": source.label(row) or "nothing",
        }


def _told_of(record: DataRecord, data_dir: str) -> str:
    """What was trained on, with its place and, where that is known, its content."""
    told = f"{record.dataset}{f' in {data_dir}' if data_dir else ''}" if record.dataset else f"{record.name}, in memory"
    return f"{told}; digest of the training images {record.digest}" if record.digest else told


def _data_uri(pixels: np.ndarray) -> str:
    """An image in the page itself: small ones as they are, photographs as JPEG."""
    small = max(pixels.shape[:2]) <= 64
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **({"format": "PNG"} if small else {"format": "JPEG", "quality": 82}))
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
