"""Model architectures as Flax modules, without weights, files or preprocessing.

`MODELS` maps names to constructors; `create_model` makes a model by name. Every model is a `Chain` of named stages.
"""

from jft.models.chain import Chain, abstract_variables, between, initialize
from jft.models.zoo import MODELS, architecture, create_model, register

__all__ = [
    "MODELS",
    "Chain",
    "abstract_variables",
    "architecture",
    "between",
    "create_model",
    "initialize",
    "register",
]
