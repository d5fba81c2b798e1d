"""python scripts/extract_features.py ...: features of any stage in one file. The same as `jft extract-features`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("extract_features")
