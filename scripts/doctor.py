"""python scripts/doctor.py ...: whether these machines can train together. The same as `jft doctor`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("doctor")
