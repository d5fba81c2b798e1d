"""Fields about optimization, the machine, and how often a run logs, evaluates and saves."""

from typing import Any

from jft.utils.fields.field import Field, Needs, count_or_auto, not_negative, positive, share

# A solver minimizes the plain loss of every image alike, in one layer, at once: what belongs to steps has no effect.
_STEPS = Needs("solver", ("steps",))
_STEP_SCHEDULE = Needs("schedule", ("step",))

OPTIMIZATION = (
    Field("batch_size", 32, "images in a step, over all devices", check=positive, needs=(_STEPS,)),
    Field(
        "epochs",
        10.0,
        "passes over the training images",
        check=not_negative,
        needs=(_STEPS, Needs("steps", (0,)), Needs("phases", ((),))),
    ),
    Field("steps", 0, "length in steps; 0: as epochs says", check=not_negative, needs=(_STEPS,)),
    Field(
        "optimizer",
        "adamw",
        "adam, adamw, sgd (Nesterov momentum); any of Optax by name: lion, rmsprop, ...; module:function",
        needs=(_STEPS,),
        phase=True,
    ),
    Field("learning_rate", 1e-3, "peak learning rate", check=positive, needs=(_STEPS,), phase=True),
    Field(
        "momentum",
        0.9,
        "momentum of sgd, and of those of Optax that have it: rmsprop, lars, sm3, adafactor",
        needs=(_STEPS, Needs("optimizer", ("sgd", "rmsprop", "lars", "sm3", "adafactor"), own=True)),
        phase=True,
    ),
    Field(
        "weight_decay",
        0.0,
        "on kernels, not on biases or BatchNorm; decoupled in adamw, an L2 term elsewhere",
        check=not_negative,
        needs=(_STEPS,),
        phase=True,
    ),
    Field(
        "schedule",
        "constant",
        "constant; cosine, to 0; step; inverse_time: rate / (1 + rate_decay * step); module:function",
        needs=(_STEPS,),
        phase=True,
    ),
    Field("warmup_epochs", 0.0, "epochs of linear warm-up from 0", check=not_negative, needs=(_STEPS,), phase=True),
    Field(
        "step_epochs",
        (),
        "schedule step: epochs at which the rate is multiplied by step_factor",
        element=float,
        needs=(_STEPS, _STEP_SCHEDULE),
        phase=True,
    ),
    Field(
        "step_factor",
        0.1,
        "schedule step: the factor",
        needs=(_STEPS, _STEP_SCHEDULE, Needs("step_epochs")),
        phase=True,
    ),
    Field(
        "rate_decay",
        0.0,
        "schedule inverse_time: what Keras' SGD calls decay",
        check=not_negative,
        needs=(_STEPS, Needs("schedule", ("inverse_time",))),
        phase=True,
    ),
    Field(
        "clip_norm",
        0.0,
        "largest global norm of the gradient of trainable parameters; 0: not clipped",
        check=not_negative,
        needs=(_STEPS,),
        phase=True,
    ),
    Field("label_smoothing", 0.0, "probability spread over all classes", check=share, needs=(_STEPS,)),
    Field(
        "accumulate",
        1,
        "micro-batches in a step, to fit a large batch in memory; auto: as few as fit",
        check=count_or_auto,
        auto=int,
        needs=(_STEPS,),
    ),
    Field(
        "ema",
        0.0,
        "decay of a moving average of the trainable parameters, which is then what is evaluated; 0: none",
        check=share,
        needs=(_STEPS,),
    ),
    # Resuming may change what a run that one of these three stopped should do.
    Field(
        "on_nan",
        "stop",
        "a loss, gradient or update that is not finite: stop; rollback: to the newest checkpoint, without that step",
        choices=("stop", "rollback"),
        needs=(_STEPS,),
        resume=True,
    ),
    Field(
        "max_rollbacks",
        3,
        "on_nan rollback: steps left out at most",
        check=positive,
        needs=(_STEPS, Needs("on_nan", ("rollback",))),
        resume=True,
    ),
    Field(
        "spike_norm",
        0.0,
        "gradient norm above which a step counts as not finite; 0: none does",
        check=not_negative,
        needs=(_STEPS,),
        resume=True,
    ),
    Field(
        "early_stopping",
        0,
        "evaluations without a better validation accuracy before stopping; 0: never",
        check=not_negative,
        needs=(_STEPS, Needs("validation")),
    ),
    Field("seed", 0, "of initialization, order, augmentation and splits"),
)

MACHINE = (
    Field(
        "dtype",
        "float32",
        "of the computation; parameters, statistics and loss stay float32",
        choices=("float32", "bfloat16"),
    ),
    Field(
        "parallel",
        "jit",
        "jit: one program over a mesh of devices; pmap: one program a device",
        choices=("jit", "pmap"),
    ),
    Field(
        "mesh",
        {"data": -1, "fsdp": 1},
        "devices: copies of the state, and parts that each copy is cut into; -1: as many as there are",
        resume=True,
    ),
    Field("eval_batch_size", 64, "images at a time in evaluation, over all devices", check=positive, resume=True),
    Field(
        "initialization_timeout",
        300,
        "seconds to wait for the other processes at the start",
        check=positive,
        resume=True,
    ),
    Field(
        "heartbeat_timeout",
        100,
        "seconds of silence after which a process is taken for dead, and the others end",
        check=positive,
        resume=True,
    ),
)

CADENCE = (
    Field(
        "metrics",
        (),
        "further ones of evaluations: top3_accuracy, top5_accuracy, brier_score, label_f1, module:function",
        element=str,
    ),
    Field(
        "select_by",
        "",
        "metric that chooses the best checkpoint, as -loss where less is better; empty: accuracy",
        needs=(_STEPS, Needs("validation")),
    ),
    Field(
        "callbacks",
        (),
        "told step, epoch and evaluation ends; may stop the run: stop_when_perfect, module:function",
        element=str,
        needs=(_STEPS,),
        resume=True,
    ),
    Field("log_every", 20, "steps between lines of the log", check=positive, resume=True),
    Field(
        "evaluate_every",
        1.0,
        "epochs between evaluations; a checkpoint is saved at each",
        check=positive,
        needs=(_STEPS,),
    ),
    Field("checkpoint_every", 0, "steps between further checkpoints; 0: none", check=not_negative, resume=True),
    # Two, to have one to fall back on.
    Field("keep_last", 2, "newest checkpoints kept, beside the best on validation", check=positive, resume=True),
    Field(
        "keep_every",
        0,
        "also keep for good the first checkpoint after each so many steps; 0: none",
        check=not_negative,
        resume=True,
    ),
)

COMPARISON = (
    Field(
        "arms",
        (),
        "((name, {field: value}), ...): trains each arm in turn and tests all on the same images",
        element=tuple[str, dict[str, Any]],
    ),
)
