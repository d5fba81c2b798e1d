"""python scripts/weights.py ...: list, fetch, convert, verify and export weights. The same as `jft weights`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("weights")
