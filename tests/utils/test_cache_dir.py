"""Where the cache is, and who may write to it."""

import os
import stat
from pathlib import Path

from jft.utils.cache_dir import cache_dir, make_cache_dir


def test_where_it_is(monkeypatch):
    monkeypatch.setenv("JFT_CACHE", "/somewhere")
    assert cache_dir() == Path("/somewhere")
    monkeypatch.delenv("JFT_CACHE")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path("/home/me/.cache/jft")


def test_it_is_made_for_its_owner_alone_to_write(tmp_path, monkeypatch):
    monkeypatch.setenv("JFT_CACHE", str(tmp_path / "new" / "cache"))
    before = os.umask(0)
    try:
        made = make_cache_dir()
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.stat().st_mode) == 0o755 and cache_dir() == made
