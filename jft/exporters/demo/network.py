"""What the page's network computes for an image, as one function, and where it stands in the row that it returns."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jft.data import transforms
from jft.evaluation import gradcam
from jft.evaluation.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Row:
    """The lengths of the parts of a row: probabilities, then features, then one map for each class.

    Attributes:
      classes: number of probabilities.
      features: number of features by which images are compared; 0: there are none.
      map: height and width of the maps of Grad-CAM; None: there are none. A map's places lie together, class by class.
    """

    classes: int
    features: int
    map: tuple[int, int] | None


def make_answer(predictor: Predictor, *, features: bool) -> tuple[Callable[[jax.Array], jax.Array], Row]:
    """Makes the function that the page runs: preprocessing, network, temperature, features and maps.

    Args:
      predictor: the run's model, computing in float32.
      features: whether the row has the features that `gallery.like` compares.

    Returns:
      uint8 [batch, side, side, 3], RGB -> float32 [batch, n], pure; and what the n numbers are.
    """
    model, spec, objective = predictor.model, predictor.spec, predictor.objective
    held = jax.tree.map(np.asarray, predictor.variables)
    stage = predictor.stages[-2]
    weights = gradcam.linear_weights(model, held, size=spec.size, objective=objective)
    shape = jax.eval_shape(
        lambda x: model.apply(held, x, train=False, stop=stage),
        jax.ShapeDtypeStruct((1, spec.size, spec.size, len(spec.channels)), jnp.float32),
    )
    pooled = int(np.prod(jax.eval_shape(model.pooled, shape).shape))
    size = None if weights is None else (int(shape.shape[1]), int(shape.shape[2]))

    def answer(images: jax.Array) -> jax.Array:
        with jax.named_scope("preprocess"):
            x = transforms.to_model_input(images, spec, fit=predictor.fit)
        x = model.apply(held, x, train=False, stop=stage)
        logits = model.apply(held, x, train=False, start=stage)
        parts = []
        with jax.named_scope("probabilities"):
            parts.append(objective.probabilities(logits / predictor.temperature))
        if features:
            with jax.named_scope("features"):
                parts.append(model.pooled(x).reshape(-1, pooled))
        if weights is not None:
            with jax.named_scope("maps"):
                maps = jnp.einsum("bhwc,ck->bkhw", x, weights, precision="highest")
                parts.append(maps.reshape(-1, int(np.prod(maps.shape[1:]))))
        return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    return answer, Row(len(predictor.class_names), pooled if features else 0, size)
