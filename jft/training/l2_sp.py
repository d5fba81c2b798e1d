"""L2-SP: weights decay toward where they began instead of to 0 (Li et al., 2018, https://arxiv.org/abs/1802.01483).

The penalty is l2_sp / 2 * |w - start|^2 over the kernels that begin with pretrained values, plus weight_decay / 2 *
|w|^2 over the others: those of the head, of auxiliary heads and of `fresh` stages. The head's kernel counts as new even
where `fresh_head = False` keeps rows of it. As in the paper the penalty is part of the loss, for every optimizer, so
its gradient is clipped with the loss's. Biases and scales are free, as they are of `weight_decay`.
"""

import copy
from collections.abc import Callable, Collection

import jax

from jft.config import Config
from jft.models import Chain
from jft.training.freeze import Params
from jft.training.optimizers import kernels
from jft.utils import tree
from jft.weights.pretrained import fresh_leaves


def of_optimizer(config: Config) -> Config:
    """The config that the optimizer is made of: without the weight decay that the penalty takes over."""
    if not config.l2_sp:
        return config
    config = copy.deepcopy(config)
    config.weight_decay = 0.0
    return config


def make_gradient(config: Config, model: Chain, names: Collection[str]) -> Callable[[Params, Params], Params] | None:
    """Makes `(trainable parameters, the same at the start of the phase) -> gradient of the penalty`, a pure function.

    Args:
      config: `l2_sp`, `weight_decay`, `fresh`.
      model: the chain of stages.
      names: of all its parameters, frozen ones as well.

    Returns:
      The function, whose result has the shape of the parameters; None where `l2_sp` is 0.
    """
    if not config.l2_sp:
        return None
    heads = ("head", *model.auxiliary_heads())
    new = fresh_leaves(names, config.fresh) | {name for name in names if name.split("/")[0] in heads}

    def gradient(params: Params, start: Params) -> Params:
        decays, first = tree.flatten(kernels(params)), tree.flatten(start)

        def of_leaf(name: str, leaf: jax.Array) -> jax.Array:
            if not decays[name]:
                return 0 * leaf
            return config.weight_decay * leaf if name in new else config.l2_sp * (leaf - first[name])

        return tree.unflatten({name: of_leaf(name, leaf) for name, leaf in tree.flatten(params).items()})

    return gradient
