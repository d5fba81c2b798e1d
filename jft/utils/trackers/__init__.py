"""Trackers: programs such as Weights & Biases and MLflow that follow a run's log, each in a process of its own.

The log `metrics.jsonl` is what they are told from, so they hold the same numbers, and nothing they do reaches the run.
"""
