"""Keras 3 on TensorFlow or on JAX, on CPU: `keras.applications` with `train_on_batch`."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from shared import CLASSES, SIZE, Steps, images, normalized

NETWORKS = {
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "inception_v3": "InceptionV3",
}


class Keras:
    """One backend: a process can have no other."""

    def __init__(self, backend: str) -> None:
        """Nothing is built yet."""
        os.environ.update(KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3", JAX_PLATFORMS="cpu")
        # Programs are kept, as jft's are. Importing jft to ask for its folder would set XLA's flags.
        kept = Path(os.environ.get("JFT_CACHE") or "~/.cache/jft").expanduser() / "keras-jax"
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(kept))
        self._backend, self._training = backend, None

    def about(self) -> dict[str, Any]:
        """See `Rival.about`."""
        import keras

        engine = __import__(self._backend)
        return {"keras": keras.__version__, self._backend: engine.__version__, "device": "cpu"}

    def build(self, what: str, model: str, batch: int, dtype: str, size: int = SIZE) -> Steps:
        """See `Rival.build`; `what` is 'train', 'frozen' or 'infer'."""
        import keras

        if dtype != "float32":
            raise ValueError(f"Keras is measured in float32, not in {dtype}")
        network = getattr(keras.applications, NETWORKS[model])(
            weights=None, classes=CLASSES, input_shape=(size, size, 3)
        )
        pixels, labels = images(batch, size)
        x = normalized(pixels)
        if what == "infer":
            return self._infer(network, x)
        if what not in ("train", "frozen"):
            raise ValueError(f"Keras has no {what!r}, only 'train', 'frozen' and 'infer'")
        return self._train(network, x, labels, frozen=what == "frozen")

    def _infer(self, network: Any, x: np.ndarray) -> Steps:
        if self._backend == "tensorflow":
            import tensorflow as tf

            forward, held = tf.function(lambda z: network(z, training=False)), tf.constant(x)

            def once() -> np.ndarray:
                return forward(held).numpy()
        else:

            def once() -> np.ndarray:
                return network.predict_on_batch(x)

        def steps(count: int) -> None:
            for _ in range(count):
                once()

        return steps

    def _train(self, network: Any, x: np.ndarray, labels: np.ndarray, frozen: bool) -> Steps:
        import keras

        if frozen:
            network.trainable = False
            network.layers[-1].trainable = True
        optimizer = keras.optimizers.SGD(1e-3, momentum=0.9, nesterov=True)
        network.compile(optimizer, "sparse_categorical_crossentropy")
        self._training = network, x, labels

        def steps(count: int) -> None:
            for _ in range(count):
                network.train_on_batch(x, labels)

        return steps

    def drop(self) -> None:
        """See `Rival.drop`."""
        import keras

        self._training = None
        keras.utils.clear_session()

    def memory(self) -> dict[str, int]:
        """See `Rival.memory`; of the program of a training step on JAX, compiled once more for it."""
        if self._backend != "jax" or self._training is None:
            return {}
        import jax

        network, x, labels = self._training
        lists = (
            network.trainable_variables,
            network.non_trainable_variables,
            network.optimizer.variables,
            network.metrics_variables,
        )
        state = tuple([variable.value for variable in variables] for variables in lists)
        # As Keras compiles it: the state is donated.
        held = jax.jit(network.train_step, donate_argnums=0).lower(state, (x, labels)).compile().memory_analysis()
        taken = held.argument_size_in_bytes + held.output_size_in_bytes + held.temp_size_in_bytes
        return {"program": taken - held.alias_size_in_bytes}

    def flops(self) -> None:
        """See `Rival.flops`."""
