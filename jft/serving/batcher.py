"""Micro-batches: images of requests that arrive together go through the model together."""

import asyncio
import dataclasses
from collections.abc import Callable
from concurrent import futures

import numpy as np

from jft.evaluation.predictor import Predictor

Waiting = tuple[np.ndarray, asyncio.Future]
Note = Callable[[int, float], None]


class Batcher:
    """Runs the model over what waits, in batches of a few fixed sizes, so that nothing is compiled but at the start."""

    def __init__(self, model: Predictor, max_wait: float, note: Note) -> None:
        """Compiles the model for each size.

        Args:
          model: its batch size is the largest one.
          max_wait: seconds that an image waits for others, where the model has nothing else to do.
          note: told of each batch, its number of images and its seconds.
        """
        sizes = {model.batch_size, *(model.parallel.rounded(2**n) for n in range(model.batch_size.bit_length()))}
        self._models = {
            size: dataclasses.replace(model, batch_size=size) for size in sorted(sizes) if size <= model.batch_size
        }
        self._most, self._max_wait, self._note = model.batch_size, max_wait, note
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._left: list[Waiting] = []
        self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="jft-model")
        for size in self._models:
            self._logits([np.zeros((model.side, model.side, 3), np.uint8)] * size)

    async def logits(self, squares: list[np.ndarray]) -> np.ndarray:
        """Logits of squares uint8 [side, side, 3]: float32 [n, classes]."""
        loop = asyncio.get_running_loop()
        waiting = [(square, loop.create_future()) for square in squares]
        for one in waiting:
            self._queue.put_nowait(one)
        return np.stack(await asyncio.gather(*(future for _, future in waiting)))

    async def work(self) -> None:
        """Serves what waits, until it is canceled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._gathered()
            if not batch:
                continue
            start = loop.time()
            try:
                rows = await loop.run_in_executor(self._thread, self._logits, [square for square, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            self._note(len(batch), loop.time() - start)
            for (_, future), row in zip(batch, rows, strict=True):
                if not future.done():  # nobody waits for it any more
                    future.set_result(row)

    def close(self) -> None:
        """Ends the thread, after its batch."""
        self._thread.shutdown(cancel_futures=True)

    async def _gathered(self) -> list[Waiting]:
        """The next images, of the largest size that they fill; without those that nobody waits for any more.

        A batch is not padded: what is left over goes with the next one, and others come in the meantime.
        """
        loop = asyncio.get_running_loop()
        batch = self._left or [await self._queue.get()]
        end = loop.time() + (0.0 if self._left else self._max_wait)
        while len(batch) < self._most:
            try:
                batch.append(self._queue.get_nowait())
            except asyncio.QueueEmpty:
                try:
                    batch.append(await asyncio.wait_for(self._queue.get(), end - loop.time()))
                except TimeoutError:
                    break
        batch = [(square, future) for square, future in batch if not future.done()]
        size = max((size for size in self._models if size <= len(batch)), default=len(batch))
        self._left = batch[size:]
        return batch[:size]

    def _logits(self, squares: list[np.ndarray]) -> np.ndarray:
        size = next(size for size in self._models if size >= len(squares))
        return self._models[size].logits(squares)
