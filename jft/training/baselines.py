"""Linear-probe and k-NN accuracy of a config's frozen features: ridge, logistic regression and nearest neighbors."""

import copy
import dataclasses
import tempfile
import time
from pathlib import Path

from jft.config import Config, default_config, effective
from jft.data import datasets
from jft.data.augment import Augmentation
from jft.features import linear
from jft.features.examples import Examples, score
from jft.features.knn import choose_neighbors, nearest_neighbors
from jft.training import feature_cache, linear_probe
from jft.training.run import Run, create_run
from jft.training.state import initial_state
from jft.utils.interrupt import Interrupt


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Result of one method. Scores are accuracies, or mean average precision if images have several labels.

    Attributes:
      method: 'ridge', 'lbfgs' or 'nearest neighbors'.
      chosen: the hyperparameter chosen on validation: 'C = 0.01', 'k = 10'.
      validation: validation score of the head fitted on the training images.
      test: test score of the head refit on training and validation images; fitted on the training images alone if
        `examples_per_class` limits them.
      seconds: time to choose and to fit.
    """

    method: str
    chosen: str
    validation: float
    test: float
    seconds: float


def measure(config: Config) -> list[Baseline]:
    """Extracts the features of a config's images that are not cached yet, and measures each method on them.

    Args:
      config: of a run. `cut` selects the features; head, optimizer and phases are not used.

    Returns:
      One baseline per method.

    Raises:
      ValueError: see `create_run`; there are no validation images; or images have no fixed number of variants.
      Stopped: a signal came.
    """
    config, usual = copy.deepcopy(config), default_config()
    solver = "lbfgs" if config.solver == "steps" else config.solver
    with config.unlocked():
        config.update({field: usual[field] for field in ("freeze", "arms", "cache_features")})
        config.update({"solver": solver, "head": "linear"})
        config.update(effective(config.to_dict()))
    with tempfile.TemporaryDirectory() as folder, Interrupt() as interrupt:
        run = create_run(config, Path(folder) / "run")
        if not len(run.validation_source):
            raise ValueError("baselines choose on validation images, and validation = 0: hold some images out.")
        linear_probe.check_head(run)
        state, _ = initial_state(run)
        parts = []
        for source, augmentation in (
            (run.train_source, run.augmentation),
            (run.validation_source, Augmentation()),
            (datasets.of_config(config, "test"), Augmentation()),
        ):
            features = feature_cache.features_of(run, run.phases[0], state, source, augmentation, interrupt)
            if features is None:
                raise interrupt.stopped()
            parts.append(linear_probe.examples(features, source.labels))
    return [_fitted(run, method, *parts) for method in ("ridge", "lbfgs")] + [_neighbors(run, *parts)]


def _fitted(run: Run, method: str, train: Examples, validation: Examples, test: Examples) -> Baseline:
    start, outputs = time.perf_counter(), run.objective.num_outputs
    own = run.config.regularization if method == run.config.solver else ()
    found = linear.fit(
        method, train, validation, outputs=outputs, regularization=own, refit=not run.config.examples_per_class
    )
    seconds = time.perf_counter() - start
    reached = found.scores[found.regularization]
    tested, _ = linear.measure(found.linear, test)
    return Baseline(method, f"C = {found.regularization:g}", reached, tested, seconds)


def _neighbors(run: Run, train: Examples, validation: Examples, test: Examples) -> Baseline:
    start, outputs = time.perf_counter(), run.objective.num_outputs
    chosen = choose_neighbors(train, validation, outputs=outputs)
    known = train if run.config.examples_per_class else train.join(validation)
    [guesses] = nearest_neighbors(known, test.features, outputs=outputs, ks=[chosen.k])
    seconds = time.perf_counter() - start
    reached, tested = chosen.scores[chosen.k], score(guesses, test.labels)
    return Baseline("nearest neighbors", f"k = {chosen.k}", reached, tested, seconds)


def format_baselines(baselines: list[Baseline]) -> str:
    """Formats one line per method."""
    return "\n".join(
        f"{b.method:<19} {b.chosen:<11} validation {b.validation:7.2%}   test {b.test:7.2%}   {b.seconds:.1f} s"
        for b in baselines
    )
