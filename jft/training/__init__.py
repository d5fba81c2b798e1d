"""A run: its plan, phases, optimizer, state, step and loop, and what is checked before the first step.

A run is a pure function of its config, its data and its seed.
"""
