"""Features of frozen stages: the activation cache, extraction, and what is fitted on features alone.

Linear probes, nearest neighbors and the cache key, which holds all that a feature depends on.
"""
