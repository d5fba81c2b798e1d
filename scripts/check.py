"""python scripts/check.py ...: whether a config will train: memory, time, data, weights. The same as `jft check`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("check")
