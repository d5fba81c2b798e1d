"""python scripts/summary.py ...: the table of a model, and a drawing. The same as `jft summary`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("summary")
