"""Knowledge distillation: a loss that is small where a network's probabilities are a teacher's."""

import jax
import jax.numpy as jnp

from jft.metrics.losses import Objective


def losses(objective: Objective, logits: jax.Array, taught: jax.Array, temperature: float) -> jax.Array:
    """The loss of each image: T² KL(teacher || student), both at the temperature T.

    From Hinton et al., 2015 (https://arxiv.org/abs/1503.02531), section 2: the factor T² keeps the size of the gradient
    for any T. Where an image may have several labels, each is there or not: two probabilities a class, and the mean
    over the classes.

    Args:
      objective: what the logits of both mean.
      logits: the student's, float32 [batch, num_outputs].
      taught: the teacher's, float32 [batch, num_outputs].
      temperature: T.

    Returns:
      float32 [batch], in nats.
    """
    student, teacher = (_log_probabilities(objective, x / temperature) for x in (logits, taught))
    divergence = jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)
    return temperature**2 * (jnp.mean(divergence, axis=-1) if objective.multi_label else divergence)


def _log_probabilities(objective: Objective, logits: jax.Array) -> jax.Array:
    """Logarithms of what adds up to 1: [batch, classes], or [batch, classes, 2] with several labels an image."""
    if objective.multi_label:
        return jnp.stack([jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)], axis=-1)
    return jax.nn.log_softmax(objective.class_logits(logits))
