"""`Chain`, the base of all models: a sequence of named stages, of which any contiguous part can run alone."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from jft.models import layers
from jft.models.pooling import pooled
from jft.utils import tree

Stages = dict[str, Callable[..., nn.Module]]
Pool = Literal["average", "token", "both", "stages"]
JOINED = "joined"


@dataclasses.dataclass(frozen=True)
class AuxiliaryHead:
    """An auxiliary classifier in the middle of the chain, which runs only in training.

    Attributes:
      after: the stage whose output it reads.
      build: constructor of the module, called with `name=`.
      weight: of its loss, beside the head's 1.
    """

    after: str
    build: Callable[..., nn.Module]
    weight: float


class Chain(nn.Module):
    """Base of all models: stages run in order, each a submodule whose name is its key in `params`.

    The last stage is called `head`, and so is the classifying layer inside it. Auxiliary heads are submodules too; in
    training they leave their logits in the collection `auxiliary`: `{'logits': {name: float32 [batch, num_classes]}}`.

    Attributes:
      num_classes: number of logits.
      default_size: side in pixels of the square images that the model was designed for; others may fit.
      aux_heads: whether the model has its auxiliary heads.
      cut: the stage that the head follows, the network's later ones being left out; '' leaves none out.
      new_head: 'published', the network's own head; 'linear', `layers.Head`: average, hidden layers, logits.
      head_hidden: units of a linear head's hidden layers.
      head_dropout: dropped share before each layer of a linear head.
      in_channels: channels of the images, 3 as published; the first kernel has as many inputs.
      pool: what `layers.Head` reads of a stage's output: 'average', over all positions; of a transformer also 'token',
        the class token alone, or 'both', the class token and the average of the patches, concatenated. 'stages': a
        linear head reads what it would read of every stage, from a stage 'joined' before it, see `layers.Joined`.
      dtype: type of the computation; parameters and batch statistics stay float32.
      axis_name: the `jax.pmap` axis over which BatchNorm averages, or None.
    """

    if TYPE_CHECKING:

        def __hash__(self) -> int: ...  # flax makes a module hashable by its fields

        def apply(self, variables: Any, *args: Any, **options: Any) -> Any:
            """As of Linen, which declares a pair with the mutated variables, whether `mutable` asks for it or not."""

    # Fields of the family, with their values where the published head is made anew for other classes.
    NEW_HEAD: ClassVar[Mapping[str, Any]] = {}

    num_classes: int = 1000
    default_size: int = 224
    aux_heads: bool = False
    cut: str = ""
    new_head: str = "published"
    head_hidden: tuple[int, ...] = ()
    head_dropout: float = 0.0
    in_channels: int = 3
    pool: Pool = "average"
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def published(self) -> Stages:
        """The published network's stages in order: {name: constructor}, called with `name=`."""
        raise NotImplementedError

    def stages(self) -> Stages:
        """The stages in order, after the changes by `cut` and `new_head`.

        Raises:
          ValueError: `cut` is not a stage, or `pool` is not possible.
        """
        known = get_args(Pool) if self.prefix_tokens else ("average", "stages")
        if self.pool not in known:
            raise ValueError(f"pool = {self.pool!r}: {type(self).__name__} has {', '.join(known)}.")
        if self.pool == "stages" and self.new_head != "linear":
            raise ValueError("pool = 'stages' is of a linear head: give head = 'linear' too (create_model: new_head).")
        stages = self.published()
        head = stages.pop("head")
        kept = between(tuple(stages), None, self.cut or None)
        joined = {JOINED: layers.Joined} if self.pool == "stages" else {}
        if self.new_head == "linear":
            head = functools.partial(
                layers.Head,
                self.num_classes,
                self.dtype,
                self.head_dropout,
                tuple(self.head_hidden),
                pool=self.pool,
                prefix=self.prefix_tokens,
            )
        return {**{name: stages[name] for name in kept}, **joined, "head": head}

    def averages_after(self, stage: str) -> bool:
        """Whether the next stage first pools what it reads, as heads do, so that `pooled` is all it needs."""
        stages = self.stages()
        follower = next(iter(between(tuple(stages), stage, None)))
        return getattr(getattr(stages[follower], "func", None), "averages", False)

    def starts_after(self, stage: str) -> bool:
        """Whether the stages after this one need its output alone, so that they can run from there."""
        return self.pool != "stages" or stage == JOINED

    @property
    def prefix_tokens(self) -> int:
        """Tokens before those of the patches in the outputs [batch, tokens, channels] of a transformer; 0 of a CNN."""
        return 0

    @property
    def pool_of_stage(self) -> Pool:
        """What is read of one stage's output; where it is read of all stages, as the network does by itself."""
        return type(self).pool if self.pool == "stages" else self.pool

    def pooled(self, x: jax.Array) -> jax.Array:
        """What `layers.Head` reads of a stage's output, a vector for each image; see `pool`."""
        return pooled(x, self.pool_of_stage, self.prefix_tokens)

    def map_size(self, output: tuple[int, ...]) -> tuple[int, int] | None:
        """Height and width of a stage's output for square images as a feature map; None if it is none.

        Args:
          output: its shape without the batch: [h, w, channels], or [tokens, channels] of a transformer.
        """
        if len(output) == 2 and self.prefix_tokens:
            side = math.isqrt(output[0] - self.prefix_tokens)
            return side, side
        return output[:2] if len(output) == 3 else None

    def reads_patches(self, stage: str) -> bool:
        """Whether the logits depend on every position of a stage's output."""
        del stage
        return True

    def auxiliary_heads(self) -> dict[str, AuxiliaryHead]:
        """{name: auxiliary head}, regardless of the field `aux_heads`; {} for most models."""
        return {}

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, start: str | None = None, stop: str | None = None) -> jax.Array:
        """Runs the stages after `start` up to and including `stop`.

        Args:
          x: images [batch, height, width, in_channels], normalized as the weights ask; or, with `start`, the output
            of that stage.
          train: True uses batch statistics and dropout; False running averages and none.
          start: name of the stage whose output `x` is; None when `x` holds images.
          stop: name of the last stage to run; None runs to the end.

        Returns:
          Logits, float32 [batch, num_classes], or the output of `stop` in `dtype`, of 'joined' in float32.

        Raises:
          ValueError: unknown stage, nothing between `start` and `stop`, images of other channels, images too small
            for the stages, or a `start` before the stage 'joined', which needs the outputs of all.
        """
        if start is None and x.shape[-1] != self.in_channels:
            raise ValueError(
                f"the images have {x.shape[-1]} channels, shape {x.shape}, and the model reads {self.in_channels}: "
                f"give other images, or make the model with in_channels={x.shape[-1]}."
            )
        stages = self.stages()
        side = self.auxiliary_heads() if self.aux_heads and (train or self.is_initializing()) else {}
        logits = {}
        x = jnp.asarray(x, self.dtype)
        given = " x ".join(map(str, x.shape[1:3]))

        def run(build: Callable[..., nn.Module], name: str, x: Any) -> jax.Array:
            y = build(name=name)(x, train=train)
            if 0 in y.shape:
                raise ValueError(
                    f"stage {name!r} has an empty output {y.shape}: {given} is too small. The model was designed for "
                    f"images of {self.default_size} pixels; give larger ones."
                )
            return y

        names, vectors = _known(between(tuple(stages), start, stop), start), []
        for name in names:
            x = run(stages[name], name, vectors if name == JOINED else x)
            if JOINED in names and name not in (JOINED, "head"):
                vectors.append(self.pooled(x))
            for aux, head in side.items():
                if head.after == name:
                    logits[aux] = jnp.asarray(run(head.build, aux, x), jnp.float32)
        if logits:
            self.sow("auxiliary", "logits", logits, init_fn=dict, reduce_fn=lambda _, new: new)
        return jnp.asarray(x, jnp.float32) if name == "head" else x


def between(names: tuple[str, ...], start: str | None, stop: str | None) -> tuple[str, ...]:
    """Names of the stages after `start` up to and including `stop`; ValueError if there are none."""
    for name in (start, stop):
        if name is not None:
            tree.choose(dict.fromkeys(names), name, what="stage")
    first = 0 if start is None else names.index(start) + 1
    last = len(names) if stop is None else names.index(stop) + 1
    if first >= last:
        raise ValueError(f"no stage lies after {start!r} and up to {stop!r}; the stages are {', '.join(names)}.")
    return names[first:last]


def _known(names: tuple[str, ...], start: str | None) -> tuple[str, ...]:
    """The names; ValueError if 'joined' is among them, and not all stages that it reads."""
    if start is not None and JOINED in names:
        raise ValueError(
            f"the head reads the outputs of all stages, and those before {start!r} are not known: run it from the "
            f"images, or from {JOINED!r}."
        )
    return names


def abstract_variables(model: Chain, size: int) -> dict[str, Any]:
    """Shapes of a model's variables, without allocating them: `{'params': ..., 'batch_stats': ...}`.

    Args:
      model: the chain.
      size: side of the square images, in pixels; fc6 of some models depends on it.

    Returns:
      Nested dicts of `jax.ShapeDtypeStruct`; `batch_stats` is {} without BatchNorm.

    Raises:
      ValueError: the model does not take images of this size.
    """
    shapes = trace(model, size).variables
    # Mapped, so that the dicts are the caller's own.
    return {kind: jax.tree.map(lambda leaf: leaf, shapes.get(kind, {})) for kind in ("params", "batch_stats")}


@dataclasses.dataclass(frozen=True)
class Trace:
    """What a model's initialization, including auxiliary heads, does with shapes.

    Attributes:
      variables: nested dicts of `jax.ShapeDtypeStruct` by collection.
      calls: path of a module such as 'layer1/block0/conv1' -> the module, unbound, and the shape of its output without
        the batch; in the order of their calls.
    """

    variables: Mapping[str, Any]
    calls: Mapping[str, tuple[nn.Module, tuple[int, ...]]]


@functools.lru_cache(maxsize=64)  # a run asks for the same shapes a dozen times
def trace(model: Chain, size: int) -> Trace:
    """Runs a model's initialization on shapes only; see `abstract_variables`."""
    calls: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}

    def record(call: Any, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        output, module = call(*args, **kwargs), context.module
        if context.method_name == "__call__" and module.path:
            # jft's BatchNorm calls Flax's: the outer call of one name replaces the inner.
            calls["/".join(module.path)] = module.clone(parent=None), output.shape[1:]
        return output

    image = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
    with nn.intercept_methods(record):
        variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    return Trace(variables, calls)


def initialize(
    model: Chain, size: int, seed: int, *, head_init: float = 1.0, only: Collection[str] | None = None
) -> dict[str, Any]:
    """Initializes variables on the default device, float32. The result depends only on the seed.

    Args:
      model: the chain.
      size: see `abstract_variables`.
      seed: of the initializers.
      head_init: factor on the classifying layer's kernel; with 0 the first logits are 0 (biases start there).
      only: names of leaves such as 'params/head/head/bias'; the others are neither computed nor in the result.

    Returns:
      Nested dicts of arrays, `{'params': ..., 'batch_stats': ...}`.
    """
    image = jnp.zeros((1, size, size, model.in_channels))

    def wanted() -> dict[str, jax.Array]:
        variables = model.init(jax.random.key(seed), image, train=False)
        kept = {kind: variables[kind] for kind in ("params", "batch_stats") if kind in variables}  # not what heads sow
        leaves = tree.flatten(kept)
        return {name: leaf for name, leaf in leaves.items() if only is None or name in only}

    leaves = {} if only is not None and not only else jax.jit(wanted)()
    if head_init != 1.0 and (classifier := "params/head/head/kernel") in leaves:
        leaves[classifier] = head_init * leaves[classifier]
    return {"params": {}, "batch_stats": {}} | tree.unflatten(leaves)
