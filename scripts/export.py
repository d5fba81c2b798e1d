"""python scripts/export.py ...: a run in forms that work without jft. The same as `jft export`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("export")
