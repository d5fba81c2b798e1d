"""Pretrained weights: the catalog, readers of untrusted files, conversion, and the store."""
