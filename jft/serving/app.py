"""The application: /predict, /health, /metrics, and a page at /."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from starlette.applications import Starlette  # pyright: ignore[reportMissingImports]
from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]
from starlette.middleware.trustedhost import TrustedHostMiddleware  # pyright: ignore[reportMissingImports]
from starlette.requests import ClientDisconnect, Request  # pyright: ignore[reportMissingImports]
from starlette.responses import (  # pyright: ignore[reportMissingImports]
    FileResponse,
    JSONResponse,
    Response,
)
from starlette.routing import Route  # pyright: ignore[reportMissingImports]

from jft.evaluation import predict
from jft.evaluation.predictor import Predictor
from jft.serving import figures, images
from jft.serving.batcher import Batcher
from jft.serving.figures import Figures
from jft.serving.limits import Held, Limits, Refused
from jft.utils.version import __version__

_PAGE = Path(__file__).with_name("page.html")
_TOP = 5  # classes of an image, unless ?top= says otherwise
_DECODING = min(4, os.cpu_count() or 1)  # threads, each of which may hold an image of the largest size
# The page may be of a run that a stranger made: it reaches this server and nothing else.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; "
    "worker-src blob:; connect-src 'self' blob:; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class App:
    """Answers for one model. `asgi` is the application."""

    def __init__(
        self,
        model: Predictor,
        limits: Limits,
        max_wait: float,
        page: Path | None = None,
        hosts: Sequence[str] = ("*",),
    ) -> None:
        """Compiles the model.

        Args:
          model: its batch size is the largest of a batch.
          limits: what is refused.
          max_wait: seconds that an image waits for others.
          page: the HTML file at /; None: a form.
          hosts: names by which clients may call the server. A page of a stranger's that gives its own name the
            address 127.0.0.1 is not answered.
        """
        self._model, self._limits, self._page = model, limits, page or _PAGE
        self._name = Path(model.name).name  # strangers need not know where it lies
        self._figures = Figures()
        self._batcher = Batcher(model, max_wait, self._figures.batch)
        self._bytes, self._queue = Held(limits.bodies, "bytes"), Held(limits.queue, "images")
        self._figures.waiting.set_function(lambda: self._queue.now)
        self._pool = futures.ThreadPoolExecutor(_DECODING, thread_name_prefix="jft-decode")
        routes = [
            Route("/", self._show),
            Route("/health", self._health),
            Route("/metrics", self._metrics),
            Route("/predict", self._predict, methods=["POST"]),
        ]
        guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
        self.asgi = Starlette(routes=routes, lifespan=self._living, middleware=[guard])

    @contextlib.asynccontextmanager
    async def _living(self, asgi: Any) -> AsyncIterator[None]:
        work = asyncio.create_task(self._batcher.work())
        try:
            yield
        finally:
            work.cancel()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._batcher.close()

    async def _show(self, request: Request) -> Response:
        return FileResponse(self._page, media_type="text/html", headers=_HEADERS)

    async def _health(self, request: Request) -> Response:
        told = {"status": "ok", "model": self._name, "classes": len(self._model.class_names), "jft": __version__}
        return JSONResponse(told)

    async def _metrics(self, request: Request) -> Response:
        return Response(self._figures.text(), media_type=figures.TYPE)

    async def _predict(self, request: Request) -> Response:
        start = time.perf_counter()
        try:
            response: Response = JSONResponse(await self._answer(request))
        except Refused as refused:
            headers = {"Retry-After": "1"} if refused.status == 429 else None
            response = JSONResponse({"error": refused.reason}, refused.status, headers)
        except asyncio.CancelledError:  # the server has been stopped, and waits no longer
            response = JSONResponse({"error": "the server was stopped."}, 503)
        except Exception:
            logging.exception("a request failed")
            response = JSONResponse({"error": "the server failed; its log says why."}, 500)
        self._figures.requests.labels(response.status_code).inc()
        self._figures.seconds.observe(time.perf_counter() - start)
        return response

    async def _answer(self, request: Request) -> dict[str, Any]:
        content_type = request.headers.get("content-type", "")
        images.type_of(content_type)
        top = self._top(request)
        body = bytearray()
        try:
            await self._receive(request, body)
            async with asyncio.timeout(self._limits.answering):
                named = await self._in_pool(images.parse, body, content_type, self._limits)
                return await self._of_images(named, top)
        except TimeoutError:
            raise Refused(504, f"there was no answer within {self._limits.answering:g} s: try again.") from None
        finally:
            self._bytes.give(len(body))

    async def _of_images(self, named: Sequence[tuple[str, bytes]], top: int) -> dict[str, Any]:
        self._queue.take(len(named))
        reading = [self._in_pool(images.read, self._model, *one, self._limits) for one in named]
        try:
            logits = await self._batcher.logits(await asyncio.gather(*reading))
        finally:
            for one in reading:  # after an error; what threads have not begun they leave
                one.cancel()
            self._queue.give(len(named))
        self._figures.images.inc(len(named))
        rows = self._model.probabilities(logits, self._model.temperature)
        found = [predict.ranked(self._model, row, top) for row in rows]
        return {
            "model": self._name,
            "predictions": [
                {"name": name, "classes": predict.as_json(*ranked)}
                for (name, _), ranked in zip(named, found, strict=True)
            ],
        }

    def _top(self, request: Request) -> int:
        text = request.query_params.get("top", str(_TOP))
        most = len(self._model.class_names)
        if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
            raise Refused(422, f"top={text[:20]}: give a number of classes, 1 to {most}.")
        return min(int(text[:9]), most)

    async def _receive(self, request: Request, body: bytearray) -> None:
        """Reads the body, whose bytes count as held."""
        limits = self._limits
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limits.body:
            raise Refused(413, f"{int(declared):,} bytes: send at most {limits.body:,} in a request.")
        try:
            async with asyncio.timeout(limits.reading):
                async for chunk in request.stream():
                    self._bytes.take(len(chunk))
                    body += chunk
                    if len(body) > limits.body:
                        raise Refused(413, f"send at most {limits.body:,} bytes in a request.")
        except TimeoutError:
            raise Refused(408, f"the request did not come within {limits.reading:g} s.") from None
        except ClientDisconnect:
            raise Refused(400, "the connection was closed before the request was whole.") from None

    def _in_pool(self, function: Any, *arguments: Any) -> asyncio.Future:
        """In one of a few threads; where nobody waits any more, it does not begin."""
        return asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
