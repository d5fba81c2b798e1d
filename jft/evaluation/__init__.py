"""Use of trained models: restore, predict, evaluate, explain, and the HTML report.

An evaluation counts every image of a split exactly once, on any number of devices.
"""
