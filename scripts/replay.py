"""python scripts/replay.py ...: run a stretch of a run again and compare. The same as `jft replay`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("replay")
