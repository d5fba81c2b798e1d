"""Tests that take long and of which a shorter one says nearly the same: run where JFT_TEST_ALL is set.

The reason names the shorter one.
"""

import os

import pytest


def on_demand(reason):
    return pytest.mark.skipif(not os.environ.get("JFT_TEST_ALL"), reason=f"{reason}; JFT_TEST_ALL=1 runs it")
