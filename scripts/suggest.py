"""python scripts/suggest.py ...: which model suits these images and this machine. The same as `jft suggest`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("suggest")
