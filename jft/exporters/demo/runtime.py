"""ONNX Runtime Web, which runs the network in the page; `runtime/README.md` says what the files are."""

import base64
from importlib import resources

VERSION = "1.22.0"
# Files of the folder `runtime`, gzip; SHA-256 of what is in them.
FILES = {
    "ort.wasm.min.mjs": "6ef726f355b791129f7ddf3f62e7877a16b9b777abe87004b8ab306e6b9cf265",
    "ort-wasm-simd-threaded.mjs": "30dd851d9c00622940500f71ddd2ff8820c5cb65270816080175b958705385a8",
    "ort-wasm-simd-threaded.wasm": "71aef04959c5c1b6de461b6538e2058e306610034a85aad2742d0c7fd4533fe4",
    "LICENSES.txt": "e35c59d7c1a274f00f3614b82ef0b81ec13502b0e0d5169df8cd748f8fb48c04",
}


def read(name: str) -> bytes:
    """A file of `FILES`, as gzip."""
    return (resources.files("jft.exporters.demo") / "runtime" / f"{name}.gz").read_bytes()


def base64_of(name: str) -> str:
    """A file of `FILES`, as gzip in base64."""
    return base64.b64encode(read(name)).decode()
