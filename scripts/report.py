"""python scripts/report.py ...: one self-contained page about a run. The same as `jft report`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("report")
