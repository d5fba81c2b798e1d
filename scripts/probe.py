"""python scripts/probe.py ...: linear-probe and k-NN accuracy of frozen features. The same as `jft probe`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("probe")
