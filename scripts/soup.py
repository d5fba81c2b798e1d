"""python scripts/soup.py ...: averages runs into a new one. The same as `jft soup`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("soup")
