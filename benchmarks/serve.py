"""Measures `jft serve` under load, beside plain inference on the same images: python benchmarks/serve.py RUN photos/

In turns, over loopback and on the same CPUs, it measures

- plain inference: `jft predict`'s way, which reads the files and runs the model in whole batches;
- the server, asked by so many clients, each with one image at a time over one connection.

It prints images/s of both and the median ratio of neighboring turns, which what else the machine does changes least;
the CPU time of an image; of the server also the errors and the times of requests, and the CPU time of the clients,
which it could have used. With --turns 1 the clients ask without a pause.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path


def main() -> int:
    """Prints the figures; 1 if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="as of jft predict")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0, help="of all turns of the server")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="further ones of jft serve")
    args = parser.parse_args()
    load, plain, served = Load(args.clients, [_request(path) for path in _files(args.paths)]), [], []
    with _plain(args) as process, _server(args) as url:
        for _ in range(args.turns):
            plain.append(_turn_of_plain(process, args.seconds / args.turns))
            worked, answered = _figures(url)["cpu_seconds_total"], len(load.times)
            seconds = load.turn(url, args.seconds / args.turns)
            count = len(load.times) - answered
            served.append((count / seconds, (_figures(url)["cpu_seconds_total"] - worked) / count))
        figures = _figures(url)
    _tell(args, load, plain, served, figures["images_sum"] / figures["images_count"])
    return 1 if load.failures else 0


def _tell(
    args: argparse.Namespace,
    load: "Load",
    plain: list[tuple[float, float]],
    served: list[tuple[float, float]],
    images: float,
) -> None:
    percent = statistics.quantiles(load.times, n=100)
    print(f"{args.clients} clients, {args.seconds:.0f} s: {len(load.times):,} answers, {len(load.failures)} errors")
    print(f"{images:.1f} images in a batch; the clients took {load.worked:.1f} s of CPU")
    told = (1000 * one for one in (percent[49], percent[98], max(load.times)))
    print("time of a request: median {:.0f} ms, p99 {:.0f} ms, longest {:.0f} ms".format(*told))
    for name, turns in {"plain inference": plain, "served": served}.items():
        rates, worked = zip(*turns, strict=True)
        print(
            f"{name:<16} {statistics.median(rates):6.1f} images/s ({min(rates):.1f} to {max(rates):.1f}), "
            f"{1000 * statistics.median(worked):.2f} ms of CPU an image"
        )
    ratios = sorted(one[0] / other[0] for one, other in zip(served, plain, strict=True))
    by_cpu = statistics.median(one[1] for one in plain) / statistics.median(one[1] for one in served)
    spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
    print(f"served / plain inference {statistics.median(ratios):.3f} ({spread}); by CPU time {by_cpu:.3f}")
    for failure in load.failures[:3]:
        print(f"error: {failure}", file=sys.stderr)


@contextlib.contextmanager
def _plain(args: argparse.Namespace) -> Iterator[subprocess.Popen]:
    """Plain inference, in a process of its own as the server is."""
    command = [sys.executable, "-c", _PLAIN, args.run, *args.paths]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


def _turn_of_plain(process: subprocess.Popen, seconds: float) -> tuple[float, float]:
    """Images/s, and seconds of CPU an image."""
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    rate, worked = map(float, process.stdout.readline().split())
    return rate, worked


_PLAIN = """
import sys, time
from jft.utils import runtime
runtime.configure()
from jft.evaluation import predict
from jft.evaluation.load import load
found = predict.find(sys.argv[2:], None)
model = load(sys.argv[1], batch_size=32)
round_ = (found * 32)[:len(found) // 32 * 32 or 32]
list(predict.predict_paths(model, round_))
for line in sys.stdin:
    start, worked, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < float(line):
        count += sum(one.error is None for one in predict.predict_paths(model, round_[:320]))
    print(count / (time.perf_counter() - start), (time.process_time() - worked) / count, flush=True)
"""


@contextlib.contextmanager
def _server(args: argparse.Namespace) -> Iterator[str]:
    """A server and its address; it must end well."""
    command = [sys.executable, "-m", "jft", "serve", args.run, "--port", "0", *args.options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            found = re.search(r"http://[\d.]+:\d+", server.stdout.readline())
            if not found:
                raise RuntimeError("the server did not start")
            yield found[0]
        finally:
            server.terminate()
            status = server.wait(30)
    if status:
        raise RuntimeError(f"the server ended with status {status}")


def _figures(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        found = re.findall(r"^(?:jft_batch|process)_(\w+) (\S+)$", answer.read().decode(), re.M)
    return {name: float(value) for name, value in found}


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


@dataclasses.dataclass
class Load:
    """Clients that ask at the same time, each as soon as it has its answer.

    Attributes:
      clients: how many.
      requests: what they send, from different places on.
      times: seconds of each request that was answered well.
      failures: what the others were answered.
      worked: seconds of CPU.
    """

    clients: int
    requests: list[bytes]
    times: list[float] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)
    worked: float = 0.0

    def turn(self, url: str, seconds: float) -> float:
        """Asks for so long; returns how long it took until all was answered."""
        host, port = url.removeprefix("http://").split(":")
        start, worked = time.perf_counter(), time.process_time()
        asyncio.run(self._ask(host, int(port), start + seconds))
        self.worked += time.process_time() - worked
        return time.perf_counter() - start

    async def _ask(self, host: str, port: int, end: float) -> None:
        clients = (self._client(host, port, number, end) for number in range(self.clients))
        ends = await asyncio.gather(*clients, return_exceptions=True)
        self.failures += [repr(end) for end in ends if end is not None]

    async def _client(self, host: str, port: int, number: int, end: float) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        place = number * len(self.requests) // self.clients
        while (sent := time.perf_counter()) < end:
            writer.write(self.requests[place % len(self.requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            answer = json.loads(await reader.readexactly(int(length[1]) if length else 0))
            if head.startswith(b"HTTP/1.1 200") and len(answer["predictions"]) == 1:
                self.times.append(time.perf_counter() - sent)
            else:
                self.failures.append(str(answer))
            place += 1
        writer.close()


if __name__ == "__main__":
    sys.exit(main())
