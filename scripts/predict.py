"""python scripts/predict.py ...: classes and probabilities of images. The same as `jft predict`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("predict")
