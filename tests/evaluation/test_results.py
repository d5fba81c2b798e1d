"""What is said of a run: figures of a library, certainty that helps, views that are averaged, two runs compared."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import sklearn.metrics
import small_run
from hasty import AS_USERS
from scipy import special, stats

from jft.data import datasets, decode, transforms
from jft.data.augment import Augmentation, make_eval_transform, make_views
from jft.data.transforms import Preprocess
from jft.evaluation import results
from jft.evaluation.evaluate import Images, evaluate, evaluate_against, predict_run
from jft.evaluation.results import format_evaluation
from jft.metrics.losses import Objective
from jft.training.run import create_run
from jft.training.state import initial_state
from jft.utils.text import terminal

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("run"), pytest.mark.usefixtures("quick")]


@pytest.fixture(scope="module", params=["steps", "binary", "several"])
def told(request, tmp_path_factory):
    """A run, what it says of each test image, and its figures."""
    run = small_run.run(tmp_path_factory, request.param)
    return run, predict_run(run, Images()), evaluate(run)


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


def test_the_figures_are_those_of_scikit_learn(told):
    run, predicted, result = told
    probabilities, labels = predicted.found.probabilities, predicted.source.labels
    names = predicted.trained.class_names
    said = probabilities >= 0.5 if labels.ndim == 2 else probabilities.argmax(1)
    columns = sklearn.metrics.precision_recall_fscore_support(labels, said, zero_division=np.nan)
    assert list(result["per_class"]) == list(names)
    for i, one in enumerate(result["per_class"].values()):
        found = [np.nan if one[key] is None else one[key] for key in ("precision", "recall", "f1", "count")]
        np.testing.assert_allclose(found, [column[i] for column in columns])
    assert result["macro_f1"] == pytest.approx(np.nanmean(columns[2]))
    if labels.ndim == 2:
        own = sklearn.metrics.average_precision_score(labels, probabilities, average=None)
        assert [one["average_precision"] for one in result["per_class"].values()] == pytest.approx(own.tolist())
        assert result["mean_average_precision"] == pytest.approx(own.mean())
        log_loss = np.mean([sklearn.metrics.log_loss(y, p) for y, p in zip(labels.T, probabilities.T, strict=True)])
        assert "confusion_matrix" not in result
    else:
        log_loss = sklearn.metrics.log_loss(labels, probabilities)
        matrix = sklearn.metrics.confusion_matrix(labels, said)
        assert result["confusion_matrix"] == matrix.tolist() and len(matrix) == len(names)
        assert result["accuracy"] == np.trace(matrix) / matrix.sum() < 1
        wrong = sum(pair["count"] for pair in result["confused"])
        assert wrong == matrix.sum() - np.trace(matrix)
        low, high = result["accuracy_interval"]
        assert low < result["accuracy"] < high
    assert result["loss"] == pytest.approx(log_loss, rel=1e-5)
    losses = [one["loss"] for one in result["top_losses"]]
    assert losses == sorted(losses, reverse=True) and losses[0] > log_loss
    low, high = result["loss_interval"]
    assert low < result["loss"] < high < losses[0] < 50  # the worst is wrong, not infinitely so
    assert json.loads((run / "eval.json").read_text(), parse_constant=no_constant) == result


def test_the_calibration_error_is_the_mean_gap(told):
    """By its definition, a bin of scikit-learn's calibration curve after the other."""
    _, predicted, result = told
    probabilities, labels = predicted.found.probabilities, predicted.source.labels
    if labels.ndim == 2:
        sure, right = probabilities.ravel(), labels.ravel() > 0
    else:
        sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    gaps = [
        abs(right[bin].mean() - sure[bin].mean()) * bin.sum()
        for i in range(15)
        if (bin := (sure > i / 15) & (sure <= (i + 1) / 15)).any()
    ]
    assert result["calibration_error"] == pytest.approx(sum(gaps) / len(sure), rel=1e-5)


def test_the_lines_for_a_terminal(told):
    run, _, result = told
    lines = format_evaluation(result)
    assert f"{run} (step {result['step']}) on {result['dataset']} test, {result['count']} images:" in lines
    assert f"log loss {result['loss']:.4f}" in lines
    for name, one in result["per_class"].items():
        row = next(line for line in lines.splitlines() if line.startswith(f"  {terminal(name)} "))
        assert row.endswith(f"{one['count']:>10,}") and f"{one['recall']:.2%}" in row
    assert ("most confused:" in lines) == ("confused" in result)
    assert ("with temperature" in lines) == (result["temperature"] is not None) == ("calibrated" in result)


def test_images_that_were_learnt_from_are_said(told):
    run, _, result = told
    assert result["learnt"] == 0 and "trained on" not in format_evaluation(result)
    train, everything = (predict_run(run, Images(split=split)).headline() for split in ("train", "all"))
    assert train["learnt"] == train["count"] == everything["learnt"] < everything["count"]
    assert f"{train['count']:,} of these images were trained on" in format_evaluation({**result, **everything})


def test_the_temperature_helps_on_validation_and_survives_a_resume(tmp_path_factory):
    run = small_run.run(tmp_path_factory, "steps")
    before = (run / "eval.json").read_bytes() if (run / "eval.json").exists() else None
    found = predict_run(run, Images(split="validation"))
    result, kept = found.assess(), found.trained.info.temperature
    assert result["calibrated"]["loss"] < found.found.summary()["loss"]  # a run this short is not sure of the right
    own = special.softmax(found.found.logits.astype(np.float64) / kept, axis=1)
    assert result["calibrated"]["loss"] == pytest.approx(sklearn.metrics.log_loss(found.source.labels, own), rel=1e-5)
    # What the same command would go on with, and write into the next checkpoint.
    state, info = initial_state(create_run(small_run.config(tmp_path_factory, "steps"), run))
    assert int(state.step) == 8 and info.temperature == kept != 1
    assert ((run / "eval.json").read_bytes() if before else None) == before


def test_without_validation_there_is_no_temperature(tmp_path_factory):
    result = evaluate(small_run.run(tmp_path_factory, "several"))
    assert result["temperature"] is None and "calibrated" not in result


@pytest.mark.parametrize("name", ["steps", "several"])
def test_views_are_averaged_by_probability(tmp_path_factory, name):
    """An image and its mirror image, each by the model itself."""
    run = small_run.run(tmp_path_factory, name)
    predicted, result = predict_run(run, Images()), evaluate(run, tta="flip")
    trained, source = predicted.trained, predicted.source
    read = source.images
    if not source.decoded:
        read = np.stack([decode.decode(path, trained.spec, fit=trained.info.fit) for path in read])

    @jax.jit
    def logits_of(variables, images):
        x = transforms.to_model_input(images, trained.spec, fit=trained.info.fit)
        return trained.model.apply(variables, x, train=False)

    def probabilities(images):
        logits = np.asarray(logits_of(trained.variables, images), np.float64)
        if trained.info.objective == "multilabel":
            return special.expit(logits)
        return special.softmax(logits, axis=1)

    average = (probabilities(read) + probabilities(read[:, :, ::-1])) / 2
    if source.multi_label:
        likely = np.where(source.labels, average, 1 - average)
    else:
        likely = average[np.arange(len(source)), source.labels]
    assert result["augmented"]["loss"] == pytest.approx(-np.log(likely).mean(), rel=1e-4)
    assert (result["augmented"]["name"], result["augmented"]["views"]) == ("flip", 2)
    assert result["augmented"]["count"] == len(source)
    assert result["augmented"]["loss"] != pytest.approx(result["loss"], rel=1e-3)
    assert result["loss"] == predicted.found.summary()["loss"]  # what is told of the run is without
    assert "averaged over 2 views (flip)" in format_evaluation(result)


def test_five_crops_and_their_mirror_images():
    spec = dataclasses.replace(Preprocess(), size=8, resize=14)
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), np.uint8)
    count, view = make_views(spec, fit="crop", augmentation=Augmentation(flip=True, crop="five"))
    view = jax.jit(view, compiler_options=AS_USERS)  # hastily compiled, mirrored images are rounded otherwise
    views = [np.asarray(view(images, i)) for i in range(count)]
    assert count == 10 and len({each.tobytes() for each in views}) == 10
    read = jax.jit(make_eval_transform(spec, fit="crop"))
    np.testing.assert_allclose(views[0], read(images), atol=1e-6)
    for i in range(0, 10, 2):
        np.testing.assert_array_equal(views[i + 1], views[i][:, :, ::-1])


def test_crops_of_a_image_squashed_whole_are_refused_at_once(tmp_path_factory, monkeypatch):
    run = small_run.run(tmp_path_factory, "binary")
    monkeypatch.setattr("jft.evaluation.evaluate.record", None)
    monkeypatch.setattr("jft.evaluation.evaluator.Evaluator.__call__", None)  # before an image is looked at
    with pytest.raises(ValueError, match=r"five crops need images that are cropped, .* whole: use flip"):
        evaluate(run, tta="crops")
    with pytest.raises(ValueError, match=r"unknown test-time augmentation 'flips', did you mean 'flip'"):
        evaluate(run, tta="flips")


@pytest.mark.parametrize("kind", ["softmax", "binary", "multilabel"])
def test_the_average_of_logits_means_the_average_of_probabilities(kind):
    objective = Objective(kind, 2 if kind == "binary" else 4)
    logits = np.random.default_rng(0).normal(0, 30, (5, 7, objective.num_outputs)).astype(np.float32)
    averaged = np.asarray(objective.averaged(logits))
    assert averaged.shape == logits.shape[1:]
    wide = logits.astype(np.float64)
    if kind == "softmax":
        expected, found = special.softmax(wide, axis=-1).mean(0), special.softmax(averaged.astype(np.float64), axis=-1)
        np.testing.assert_allclose(special.logsumexp(averaged, axis=-1), 0, atol=1e-4)
    else:
        expected, found = special.expit(wide).mean(0), special.expit(averaged.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)
    # Not the average of logits.
    assert np.abs(special.expit(wide.mean(0)) - special.expit(averaged)).max() > 0.1


def test_two_runs_compared(tmp_path_factory):
    run, other = (small_run.run(tmp_path_factory, name) for name in ("steps", "other"))
    found = evaluate_against(run, other)
    one, two = (predict_run(each, Images()) for each in (run, other))
    labels = one.source.labels
    right, also = (each.found.probabilities.argmax(1) == labels for each in (one, two))
    first, second = int((right & ~also).sum()), int((also & ~right).sum())
    assert first and second
    against = found["against"]
    assert (against["only_first"], against["only_second"]) == (first, second)
    tail = sum(stats.binom.pmf(k, first + second, 0.5) for k in range(min(first, second) + 1))
    assert against["p_value"] == pytest.approx(min(1, 2 * tail))
    assert against["difference"] == pytest.approx((second - first) / len(labels))
    low, high = against["difference_interval"]
    assert low < against["difference"] < high
    assert [member["accuracy"] for member in found["members"]] == [right.mean(), also.mean()]
    lines = format_evaluation(found)
    assert f"only {other} is right on {second} images, only {run} on {first}" in lines


def test_a_run_against_itself(tmp_path_factory):
    run = small_run.run(tmp_path_factory, "steps")
    against = evaluate_against(run, run)["against"]
    assert (against["only_first"], against["only_second"], against["p_value"], against["difference"]) == (0, 0, 1, 0)
    low, high = against["difference_interval"]
    assert low == -high < 0  # which of them is better nothing tells


def test_what_cannot_be_compared(tmp_path_factory):
    steps, binary = (small_run.run(tmp_path_factory, name) for name in ("steps", "binary"))
    with pytest.raises(ValueError, match=r"has classes \['5', '8'\] and 71 images, .* has \['6 \| .*', '7', "):
        evaluate_against(steps, binary)
    probabilities = np.full((2, 2), 0.5)
    with pytest.raises(
        ValueError, match="McNemar's test needs images that are either right or wrong, and these have sev"
    ):
        results.contrast(probabilities, probabilities, np.eye(2, dtype=np.uint8))


def test_a_class_without_images():
    """Of which nothing is known, and nothing is said that JSON does not have."""
    source = datasets.from_arrays(np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 0, 1, 1]), ("a", "b", "c"))
    probabilities = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 1.0, 0.0]])
    result = results.assess(probabilities, source, source.class_names)
    assert result["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "count": 0}
    assert result["macro_f1"] == 1 and result["confused"] == []
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    alike = results.assess(np.full((4, 3), 1 / 3), source, source.class_names)
    assert alike["loss_interval"] is None  # all lose the same: how far the next one would be off nothing tells
    json.dumps(alike, allow_nan=False)
    sure = np.eye(3)[[1, 1, 1, 1]]
    assert np.isfinite(results.assess(sure, source, source.class_names)["top_losses"][0]["loss"])
