"""python scripts/serve.py ...: a run answers over HTTP. The same as `jft serve`."""

from jft.cli.main import run

if __name__ == "__main__":
    run("serve")
