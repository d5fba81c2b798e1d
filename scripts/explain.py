"""python scripts/explain.py ...: where a run looks, and which labels look wrong. The same as `jft explain`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("explain")
