"""Pretrained weights: the catalog, readers of untrusted files, conversion rules, proofs, and the local store.

A weight set is a row of the catalog; conversion is a pure function that fills every leaf or fails.
"""
