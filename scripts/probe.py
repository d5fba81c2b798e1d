"""python scripts/probe.py ...: what frozen features are worth by themselves. The same as `jft probe`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("probe")
