"""Exports of a run: StableHLO, ONNX, torchvision and Keras weights, and the model card.

An export is kept once the exported file gives the same answers as the run.
"""
