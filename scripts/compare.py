"""python scripts/compare.py ...: configs side by side, over several seeds. The same as `jft compare`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("compare")
