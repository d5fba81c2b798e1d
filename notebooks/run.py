"""Executes every notebook in an empty folder of its own; exits with 1 at the first cell that fails.

python notebooks/run.py            # pip install -e ".[docs]"; a minute or two on two cores, without a network
"""

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

_SECONDS = 600  # of one cell


def main() -> int:
    """Executes them in order of their names, and prints how long each took."""
    for path in sorted(Path(__file__).parent.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            client = NotebookClient(notebook, timeout=_SECONDS, resources={"metadata": {"path": folder}})
            try:
                client.execute()
            except CellExecutionError as error:
                print(f"{path.name}: {error}", file=sys.stderr)
                return 1
        print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
