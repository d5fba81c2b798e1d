"""python scripts/train.py ...: train what a config says, or go on with it. The same as `jft train`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("train")
