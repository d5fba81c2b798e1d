"""python scripts/predict.py ...: classes and probabilities of pictures. The same as `jft predict`."""

from jft.cli import run

if __name__ == "__main__":
    run("predict")
