"""Eight CPU devices for every test, real data where there are any, and a cache of its own."""

import os
from pathlib import Path

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

from jft import runtime

runtime.configure()

import pytest  # noqa: E402

DATA = Path(os.environ.get("JFT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture
def real_data():
    """Folder of real pictures and weights; the test is skipped where there is none."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set JFT_TEST_DATA")
    return DATA


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("JFT_CACHE", str(tmp_path_factory.mktemp("cache")))
