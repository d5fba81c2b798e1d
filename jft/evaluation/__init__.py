"""Trained models in use: restoring, predicting, evaluating, explaining, and the report.

Every image of a split counts once, on any number of devices.
"""
