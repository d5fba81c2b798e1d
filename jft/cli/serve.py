"""Serves a run over HTTP: pip install 'jft[serve]'.

    jft serve runs/flowers
    curl -F image=@rose.jpg 'http://127.0.0.1:8000/predict?top=3'

  POST /predict   images as files of a form, or as JSON {"images": ["<base64>", ...]}
  GET /health     whether it answers
  GET /metrics    counts and times for Prometheus
  GET /           a page to try it; or RUN/demo.html, if there is one

Requests that arrive together go through the model together. What is too large, too slow or too much is
refused. Only this machine reaches it unless --host says otherwise; it asks for no password. SIGTERM or
Ctrl-C stops it when it has answered what it is answering.
"""

import argparse
import ipaddress
from pathlib import Path

from jft.cli import main
from jft.utils import waiting
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help=f"{RUN}; or a model, as of jft predict --model")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="default: 8000; 0: any that is free")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; default: 127.0.0.1")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="most images of a batch; default: 16")
    parser.add_argument(
        "--max-wait", type=float, default=5.0, metavar="MS", help="wait of an image for others; default: 5"
    )
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds to answer; default: 30")
    parser.add_argument("--queue", type=int, default=256, metavar="N", help="images that may wait; default: 256")
    parser.add_argument("--max-megapixels", type=float, default=25.0, metavar="N", help="of one image; default: 25")
    main.add_license_argument(parser)
    main.add_code_argument(parser)


def hosts_of(address: str) -> tuple[str, ...]:
    """Names by which clients may call a server that listens at an address: at loopback, those of loopback."""
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = address == "localhost"
    # "[" is what Starlette before 1.0 takes for the name of any IPv6 address; a domain cannot be called that.
    return ("127.0.0.1", "localhost", "[::1]", "[", address) if loopback else ("*",)


def run(args: argparse.Namespace) -> int:
    """Serves until it is stopped."""
    try:
        from jft.serving.app import App
        from jft.serving.server import bound, serve
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}, which serving needs: pip install 'jft[serve]'.") from None
    from jft.evaluation.load import load
    from jft.serving.limits import Limits

    for flag in ("timeout", "queue", "max_megapixels"):
        if getattr(args, flag) <= 0:
            raise ValueError(f"--{flag.replace('_', '-')} {getattr(args, flag)}: give a number above 0.")
    if not 0 <= args.port <= 65535:
        raise ValueError(f"--port {args.port}: give a number from 0 to 65535.")
    if args.max_wait < 0:
        raise ValueError(f"--max-wait {args.max_wait}: give 0 or more milliseconds.")
    limits = Limits(pixels=int(args.max_megapixels * 1e6), queue=args.queue, answering=args.timeout)
    at = bound(args.host, args.port)
    waiting.doing("restoring the run")
    folder = Path(args.run)
    model = load(
        folder.absolute() if folder.is_dir() else args.run,
        batch_size=args.batch_size,
        accept_license=args.accept_license,
    )
    waiting.doing("compiling the model")
    demo = folder / "demo.html"
    app = App(model, limits, args.max_wait / 1000, page=demo if demo.is_file() else None, hosts=hosts_of(args.host))
    host, port = at.getsockname()[:2]
    waiting.doing("answering requests")
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    serve(app.asgi, at, limits, lambda: print(f"serving {args.run} at {where}, stop it by Ctrl-C", flush=True))
    return 0
