"""The command itself, under 200 hostile connections at once, and stopped while it answers."""

import contextlib
import io
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

for needed in ("uvicorn", "starlette", "python_multipart", "prometheus_client"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: pip install 'jft[serve]'")

KIND = b"multipart/form-data; boundary=edge"


def image(size, kind="JPEG"):
    file = io.BytesIO()
    if kind == "PNG":
        Image.new("1", size).save(file, kind)
    else:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)).save(file, kind)
    return file.getvalue()


def request(*contents, kind=KIND):
    parts = [
        b'--edge\r\nContent-Disposition: form-data; name="i"; filename="a"\r\n\r\n%s\r\n' % one for one in contents
    ]
    body = b"".join(parts) + b"--edge--\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


def asked(port, sent):
    """The status that the server answers, or 'closed'."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(sent)
        return connection.recv(12).decode()[9:] or "closed"
    return "closed"


@pytest.mark.slow
def test_two_hundred_hostile_connections(tmp_path):
    command = [sys.executable, "-m", "jft", "serve", "vgg_tiny.digits04", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+),", server.stdout.readline())[1])
        good, large = image((64, 64)), image((3000, 2000))
        kinds = {
            "an image": request(good),
            "32 images": request(*[good] * 32),
            "6 megapixels": request(large),
            "50 megapixels": request(image((10_000, 5_000), "PNG")),
            "a text": request(b"no image" * 1000),
            "another type": request(good, kind=b"text/plain"),
            "half a request": request(good)[:500],
            "half a head": b"POST /predict HTTP/1.1\r\nHo",
            "no line ends but line ends": request(b"\r" * 10**6),
            "17 MiB": request(bytes(17 * 2**20)),
        }
        before = peak(server.pid)
        with ThreadPoolExecutor(200) as pool:
            names = [name for name in kinds for _ in range(20)]
            found = list(pool.map(lambda name: (name, asked(port, kinds[name])), names))
        told = {name: Counter(status for which, status in found if which == name) for name in kinds}
        allowed = {
            **{"an image": "200 429 504", "32 images": "200 429 504", "6 megapixels": "200 429 504"},
            **{"50 megapixels": "413 429 504", "a text": "422 429 504", "another type": "415", "17 MiB": "413 closed"},
            **{"half a request": "408", "half a head": "closed", "no line ends but line ends": "422 429 504"},
        }
        for name, statuses in told.items():
            assert {*statuses} <= {*allowed[name].split()}, told
        assert told["an image"]["200"], told
        assert peak(server.pid) - before < 600e6
        assert asked(port, request(good)) == "200"

        with ThreadPoolExecutor(8) as pool:  # stopped while it answers
            last = [pool.submit(asked, port, request(*[large] * 2)) for _ in range(8)]
            end = time.monotonic() + 60
            while not waiting(port):
                assert time.monotonic() < end
                time.sleep(0.01)
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
            ends = {one.result() for one in last}
            assert "200" in ends and ends <= {"200", "503", "closed"}
    finally:
        server.kill()


def waiting(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return float(re.search(r"^jft_images_waiting (\S+)", answer.read().decode(), re.M)[1])


def peak(pid):
    """The most bytes that a process has had in memory."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) * 1024
