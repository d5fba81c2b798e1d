"""Metrics by name: their values, and what is refused."""

import numpy as np
import pytest

from jft.metrics import image_metrics

LOGITS = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5]], np.float32))


def test_means_over_images_of_the_rows():
    found = image_metrics.measure(image_metrics.resolve(tuple(image_metrics.METRICS)), LOGITS, np.array([0, 2, 1]))
    wanted = (0.09 + 0.04 + 0.01 + 0.01 + 0.36 + 0.49 + 0.04 + 0.49 + 0.25) / 3
    assert found["brier_score"] == pytest.approx(wanted, rel=1e-5)
    assert found["top3_accuracy"] == found["top5_accuracy"] == 1
    wide = np.tile(-np.arange(8, dtype=np.float32), (3, 1))
    found = image_metrics.measure(image_metrics.resolve(("top3_accuracy", "top5_accuracy")), wide, np.array([2, 4, 5]))
    assert found == {"top3_accuracy": pytest.approx(1 / 3), "top5_accuracy": pytest.approx(2 / 3)}


def test_f1_of_several_labels():
    logits, labels = np.array([[1, 1, -1], [-1, -1, -1]], np.float32), np.array([[1, 0, 0], [0, 0, 0]], np.uint8)
    found = image_metrics.measure(image_metrics.resolve(("label_f1",)), logits, labels)
    assert found["label_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_what_is_not_finite_is_left_out(caplog):
    def broken(logits, targets):
        return logits[:, 0] * np.nan

    assert image_metrics.measure(image_metrics.resolve(("own",), (broken,)), LOGITS, np.array([0, 1, 2])) == {}
    assert "metric broken is nan" in caplog.text
    with pytest.raises(ValueError, match="select_by = 'broken', and broken is not finite"):
        image_metrics.score("broken", {"loss": 1.0})


def accuracy(logits, targets):
    return logits[:, 0]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (lambda logits, targets: logits[:, 0], r"made by def"),
        (accuracy, r"there are two metrics 'accuracy'"),
        (3, r"is 3: give a function \(logits, targets\)"),
    ],
)
def test_a_wrong_one_is_refused(own, message):
    with pytest.raises(ValueError, match=message):
        image_metrics.resolve(("own",), (own,))


def test_one_that_gives_no_number_an_image_is_refused():
    def mean(logits, targets):
        return logits.mean()

    with pytest.raises(ValueError, match=r"metric 'mean' .* gives \[\]: give one number an image"):
        image_metrics.check({"mean": mean}, 3)
    with pytest.raises(ValueError, match=r"metric 'len' .* fails \(TypeError"):
        image_metrics.check({"len": len}, 3)


def test_select_by_names_a_metric_of_the_run():
    image_metrics.check_select_by("-brier_score", {"brier_score": accuracy}, 3, False)
    with pytest.raises(ValueError, match=r"select_by = 'top5' is no metric of this run: choose accuracy, -loss"):
        image_metrics.check_select_by("top5", {}, 3, False)
