"""Training: plan, phases, optimizer, state, step and loop of a run, and the checks before its first step.

A run is a pure function of its config, its data and its seed.
"""
