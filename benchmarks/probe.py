"""The probe beside scikit-learn at equal loss, and a path of nine C beside one fit, in turns in one process.

    python benchmarks/probe.py [--rows 50000] [--columns 2048] [--rounds 3]

A fit begins at features that are not standardized. scikit-learn's tolerance is 1e-5: at its default, the loss stays 0.2
% above the minimum. Each line is one turn: wall and processor seconds, and the objective at C = 0.01.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from shared import CLASSES, separable

C = 0.01
PATH = tuple(np.logspace(-4, 0, 9).tolist())  # C in its middle

Head = tuple[np.ndarray, np.ndarray]


def objective(features: np.ndarray, labels: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> float:
    """What is minimized, an example, of a head for features that are not standardized."""
    logits = (features @ kernel.astype(np.float32)).astype(np.float64) + bias
    logits -= logits.max(1, keepdims=True)
    nats = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    scaled = kernel * features.std(0, dtype=np.float64)[:, None]
    return float(nats.mean() + np.sum(scaled**2) / (2 * C * len(labels)))


def jft_fits(features: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Head]]:
    """One fit, and a path of C, of which the head at `C` is returned."""
    from jft.features import linear
    from jft.features.examples import Examples

    def fit(*strengths: float) -> Head:
        heads = linear.logistic(Examples(features, labels), CLASSES, strengths)
        return heads[strengths.index(C)].kernel, heads[strengths.index(C)].bias

    path = sorted({*PATH[:4], C, *PATH[5:]})
    return {"jft": lambda: fit(C), "jft, path of 9": lambda: fit(*path)}


def scikit_learn(features: np.ndarray, labels: np.ndarray, threads: int) -> Head:
    """One fit."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads):
        scaler = StandardScaler()
        model = LogisticRegression(C=C, tol=1e-5, max_iter=1000).fit(scaler.fit_transform(features), labels)
    kernel = model.coef_.T / scaler.scale_[:, None]
    return kernel, model.intercept_ - scaler.mean_ @ kernel


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--columns", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    features, labels = separable(flags.rows, flags.columns)
    fits = jft_fits(features, labels)
    for threads in sorted({1, os.cpu_count() or 1}):
        fits[f"scikit-learn, {threads} threads"] = lambda threads=threads: scikit_learn(features, labels, threads)
    fits["jft"]()  # compiles
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in fits}
    for _ in range(flags.rounds):
        for name, fit in fits.items():
            wall, cpu = time.perf_counter(), time.process_time()
            head = fit()
            found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            wall, cpu = found[name][-1]
            loss = objective(features, labels, *head)
            print(f"{name}: {wall:.2f} s, {cpu:.2f} s of processors, objective {loss:.7f}", flush=True)
    for name, turns in found.items():
        for kind, what in enumerate(("wall", "processor")):
            ratios = sorted(turn[kind] / ours[kind] for turn, ours in zip(turns, found["jft"], strict=True))
            print(f"{name}, {what}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) of jft's fit")


if __name__ == "__main__":
    main()
