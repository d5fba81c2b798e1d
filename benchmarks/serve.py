"""Measures `jft serve` under load, beside plain inference on the same images: python benchmarks/serve.py RUN photos/

In turn, over loopback and on the same CPUs, it prints images/s of

- plain inference: `jft predict`'s way, which reads the files and runs the model in whole batches;
- the server, asked by so many clients for so many seconds, each with one image at a time over one connection;
- plain inference again: what else the machine did in between shows in the difference.

Of the server also the errors, the times of requests and the CPU time of the clients, which the server could have used.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


def main() -> int:
    """Prints the figures; 1 if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="as of jft predict")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--plain-seconds", type=float, default=20.0)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="further ones of jft serve")
    args = parser.parse_args()
    before = plain(args)
    failed, served = load(args)
    after = plain(args)
    base = statistics.mean((before, after))
    print(f"plain inference: {before:.1f} images/s before, {after:.1f} after; served / plain = {served / base:.3f}")
    return 1 if failed else 0


def plain(args: argparse.Namespace) -> float:
    """Images/s of plain inference, in a process of its own as the server is."""
    options = [args.run, str(args.plain_seconds), *args.paths]
    return float(subprocess.run([sys.executable, "-c", _PLAIN, *options], capture_output=True, check=True).stdout)


_PLAIN = """
import sys, time
from jft.utils import runtime
runtime.configure()
from jft.evaluation import predict
from jft.evaluation.load import load
found = predict.find(sys.argv[3:], sys.stdin)
model = load(sys.argv[1], batch_size=32)
round_ = (found * 32)[:len(found) // 32 * 32 or 32]
list(predict.predict_paths(model, round_))
start, count = time.perf_counter(), 0
while time.perf_counter() - start < float(sys.argv[2]):
    count += sum(one.error is None for one in predict.predict_paths(model, round_))
print(count / (time.perf_counter() - start))
"""


def load(args: argparse.Namespace) -> tuple[int, float]:
    """Asks a server; returns the number of requests that failed, and images/s."""
    command = [sys.executable, "-m", "jft", "serve", args.run, "--port", "0", *args.options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        found = re.search(r"http://([\d.]+):(\d+)", server.stdout.readline())
        if not found:
            raise RuntimeError("the server did not start")
        requests = [_request(path) for path in _files(args.paths)]
        worked = time.process_time()
        times, failures, seconds = asyncio.run(_ask(found[1], int(found[2]), requests, args.clients, args.seconds))
        worked = time.process_time() - worked
        images = _per_batch(f"{found[0]}/metrics")
    finally:
        server.terminate()
        status = server.wait(30)
    rate = len(times) / seconds
    hundredths = statistics.quantiles(times, n=100)
    print(
        f"{args.clients} clients, {seconds:.0f} s: {len(times):,} answers, {len(failures)} errors, {rate:.1f} "
        f"images/s, {images:.1f} in a batch; the clients took {worked:.1f} s of CPU; the server ended with {status}"
    )
    told = (hundredths[49], hundredths[98], max(times))
    print("time of a request: median {:.0f} ms, p99 {:.0f} ms, longest {:.0f} ms".format(*(1000 * one for one in told)))
    for failure in failures[:3]:
        print(f"error: {failure}", file=sys.stderr)
    return len(failures), rate


def _per_batch(url: str) -> float:
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
    images, batches = (float(re.findall(rf"^jft_batch_images_{of} (\S+)", text, re.M)[0]) for of in ("sum", "count"))
    return images / batches


def _files(paths: list[str]) -> list[Path]:
    from jft.evaluation import predict

    return predict.find(paths, sys.stdin)


def _request(path: Path) -> bytes:
    edge = "a-line-that-no-image-holds"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'.encode()
    body = head + path.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    return (
        "POST /predict?top=1 HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={edge}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _ask(
    host: str, port: int, requests: list[bytes], clients: int, seconds: float
) -> tuple[list[float], list[str], float]:
    """Times of all answers, what failed, and the seconds that it took."""
    times: list[float] = []
    failures: list[str] = []
    start = time.perf_counter()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        place = number * len(requests) // clients
        while (sent := time.perf_counter()) < start + seconds:
            writer.write(requests[place % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            answer = json.loads(await reader.readexactly(int(length[1]) if length else 0))
            if head.startswith(b"HTTP/1.1 200") and len(answer["predictions"]) == 1:
                times.append(time.perf_counter() - sent)
            else:
                failures.append(str(answer))
            place += 1
        writer.close()

    for end in await asyncio.gather(*map(client, range(clients)), return_exceptions=True):
        if end is not None:
            failures.append(repr(end))
    return times, failures, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
