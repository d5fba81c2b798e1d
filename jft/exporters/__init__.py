"""Exports of a run: StableHLO, ONNX, torchvision and Keras weights, and the model card.

An exported file is kept only if it gives the same outputs as the run.
"""
