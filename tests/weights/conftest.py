"""What the tests that run networks operation by operation share."""

import jax
import pytest


@pytest.fixture
def hasty_compiler():
    """Where each operation runs only a few times, compiling it well takes longer than running it."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
