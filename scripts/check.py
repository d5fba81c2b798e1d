"""python scripts/check.py ...: checks a config before training: memory, time, data. The same as `jft check`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("check")
