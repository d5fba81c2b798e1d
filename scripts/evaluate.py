"""python scripts/evaluate.py ...: figures of a run. The same as `jft evaluate`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("evaluate")
