"""jft's own run, training step, evaluation transform, extraction and probe."""

import itertools
import os
import shutil
import tempfile
from typing import Any

import numpy as np
from shared import CLASSES, SIZE, Steps, images, separable

FROZEN = {"resnet": "layer4", "vgg": "fc7", "incept": "mixed_7c", "squeez": "fire9"}  # the last stage before the head


class Jft:
    """jft on JAX's device; starts from uint8 images."""

    def __init__(self, device: str) -> None:
        """Nothing is built yet."""
        if device == "cpu":
            os.environ["JAX_PLATFORMS"] = "cpu"
        # Another framework works on the same GPU: memory is taken as it is needed.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        from jft.utils import runtime

        runtime.configure()
        self._program: Any = None
        self._flops: int | None = None
        self._folders: list[str] = []

    def about(self) -> dict[str, Any]:
        """See `Rival.about`."""
        import flax
        import jax

        import jft.utils.version

        device = jax.devices()[0]
        return {
            "jft": jft.utils.version.__version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "device": device.device_kind,
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
        }

    def build(self, what: str, **options: Any) -> Steps:
        """See `Rival.build`."""
        return getattr(self, "_" + what)(**options)

    def drop(self) -> None:
        """See `Rival.drop`."""
        self._program = self._flops = None
        while self._folders:
            shutil.rmtree(self._folders.pop(), ignore_errors=True)

    def memory(self) -> dict[str, int]:
        """See `Rival.memory`; arguments, outputs and temporaries of the program, as XLA counts them."""
        from jft.utils import memory

        return {"program": memory.program_bytes(self._program)} if self._program is not None else {}

    def flops(self) -> int | None:
        """See `Rival.flops`; a backward pass counts as two forward passes."""
        return self._flops

    def _folder(self) -> str:
        self._folders.append(tempfile.mkdtemp())
        return self._folders[-1]

    def _run(self, model: str, batch: int, dtype: str, size: int, freeze: str = "", data: Any = None) -> Any:
        from jft.config import default_config
        from jft.data import datasets
        from jft.models.flops import forward_flops, stage_costs
        from jft.training.run import create_run

        config = default_config()
        config.update({"model": model, "weights": "", "freeze": freeze, "optimizer": "sgd", "learning_rate": 1e-3})
        config.update({"batch_size": batch, "eval_batch_size": batch, "steps": 10**6, "validation": 0.0})
        config.update({"flip": False, "cache_features": False, "dtype": dtype, "image_size": size})
        if data is None:
            data = datasets.from_arrays(*self._examples(40, 8))
        else:
            config.update({"input": "resident", "resize_on": "device"})
        run = create_run(config, self._folder() + "/run", data)
        costs = stage_costs(run.model, size)
        forward, plan = forward_flops(costs), run.phases[0].plan
        learning = forward - sum(costs[stage].flops for stage in plan.frozen_stages)
        self._flops = forward + 2 * learning
        return run

    def _examples(self, count: int, size: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        return images(count, size)[0], np.arange(count) % CLASSES, [str(i) for i in range(CLASSES)]

    def _train(self, model: str, batch: int, dtype: str, size: int = SIZE, source: int = 0, freeze: str = "") -> Steps:
        run = self._run(model, batch, dtype, size, freeze)
        pixels, labels = images(batch, source or size)
        numpy_batch = {"image": pixels, "label": labels, "mask": np.ones(batch, bool)}
        placed = run.parallel.place_batch(numpy_batch)
        return self._stepping(run, numpy_batch, itertools.repeat(placed))

    def _frozen(self, model: str, batch: int, dtype: str, size: int = SIZE) -> Steps:
        return self._train(model, batch, dtype, size, freeze=FROZEN[model[:6].rstrip("0123456789")])

    def _resident(self, model: str, batch: int, dtype: str, examples: int, source: int = 32, size: int = SIZE) -> Steps:
        """Training on `examples` images that live on the device, from which each step gathers its own."""
        from jft.data import datasets
        from jft.training.batches import input_choice, train_feed, train_rows

        data = datasets.from_arrays(*self._examples(examples, source))
        run = self._run(model, batch, dtype, size, data=data)
        if (choice := input_choice(run)).feed != "resident":
            raise RuntimeError(f"the images are read by {choice}")
        feed = train_feed(run, None)
        numpy_batch = {"image": images(batch, source)[0], "label": images(batch, source)[1]}
        placed = map(feed.place, feed.batches(train_rows(run), range(10**6)))
        return self._stepping(run, numpy_batch | {"mask": np.ones(batch, bool)}, placed)

    def _stepping(self, run: Any, numpy_batch: dict[str, np.ndarray], placed: Any) -> Steps:
        import jax

        from jft.training.programs import compile_train_step
        from jft.training.state import initial_state

        state, _ = initial_state(run)
        self._program = step = compile_train_step(run, run.phases[0], numpy_batch)

        def steps(count: int) -> None:
            nonlocal state
            sums = None
            for batch in itertools.islice(placed, count):
                state, sums = step(state, batch)
            jax.block_until_ready((state, sums))

        return steps

    def _infer(self, model: str, batch: int, dtype: str, size: int = SIZE, source: int = 0) -> Steps:
        import jax

        from jft.data.augment import make_eval_transform
        from jft.models import initialize

        run = self._run(model, batch, dtype, size)
        self._flops = self._flops and self._flops // 3
        transform = make_eval_transform(run.spec, fit=run.config.fit)
        variables = run.parallel.place_state(initialize(run.model, run.spec.size, 0))
        placed = run.parallel.place_batch({"image": images(batch, source or size)[0]})
        self._program = forward = run.parallel.compile(
            lambda v, b: run.model.apply(v, transform(b["image"]), train=False), variables, placed, donate=False
        )

        def steps(count: int) -> None:
            for _ in range(count):
                logits = forward(variables, placed)
            jax.block_until_ready(logits)

        return steps

    def _extract(self, model: str, batch: int, dtype: str, examples: int, source: int = 32, size: int = SIZE) -> Steps:
        """A step: features before the head of all `examples` images, from arrays to a new store on disk."""
        from jft.data import datasets
        from jft.features.extract import extract
        from jft.features.feature_step import Wanted
        from jft.models import initialize

        run = self._run(model, batch, dtype, size)
        self._flops = None
        data = datasets.from_arrays(*self._examples(examples, source))
        variables = run.parallel.place_state(initialize(run.model, run.spec.size, 0))
        wanted = Wanted(FROZEN[model[:6].rstrip("0123456789")], pooled=True, fit=run.config.fit)

        def steps(count: int) -> None:
            for _ in range(count):
                with tempfile.TemporaryDirectory() as folder:
                    options = {"folder": folder, "parallel": run.parallel, "batch_size": batch, "dtype": dtype}
                    extract(run.model, variables, data, run.spec, wanted, **options)

        return steps

    def _matmul(self, side: int, dtype: str) -> Steps:
        import jax

        a, b = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in (0, 1))
        product = jax.jit(lambda a, b: a @ b).lower(a, b).compile()

        def steps(count: int) -> None:
            for _ in range(count):
                c = product(a, b)
            jax.block_until_ready(c)

        return steps

    def _kernel(self, name: str, variant: str, batch: int, dtype: str) -> Steps:
        import jax
        import kernels

        function, arguments = kernels.make(name, variant, batch, dtype)
        compiled = jax.jit(function).lower(*arguments).compile()

        def steps(count: int) -> None:
            for _ in range(count):
                out = compiled(*arguments)
            jax.block_until_ready(out)

        return steps

    def _probe(self, rows: int, columns: int) -> Steps:
        from jft.features import linear
        from jft.features.examples import Examples

        features, labels = separable(rows, columns)
        examples = Examples(features, labels)

        def steps(count: int) -> None:
            for _ in range(count):
                linear.fit("lbfgs", examples, None, outputs=CLASSES, regularization=(0.01,))

        return steps
