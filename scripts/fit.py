"""python scripts/fit.py ...: the best model for your images within a time budget. The same as `jft fit`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("fit")
