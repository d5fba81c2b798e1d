"""Losses, masked sums, figures with intervals, and calibration.

Losses and sums are pure functions of arrays; figures are computed on the host from predictions.
"""
