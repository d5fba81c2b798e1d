"""Fields about optimization, the machine, and how often a run logs, evaluates and saves."""

from typing import Any

from jft.utils.fields.field import Field, Needs, count_or_auto, not_negative, positive, share

# A solver minimizes the plain loss of every image alike, in one layer, at once: what belongs to steps has no effect.
_STEPS = Needs("solver", ("steps",))
_STEP_SCHEDULE = Needs("schedule", ("step",))

OPTIMIZATION = (
    Field("batch_size", 32, "batch size, over all devices", check=positive, needs=(_STEPS,)),
    Field(
        "epochs",
        10.0,
        "passes over the training images",
        check=not_negative,
        needs=(_STEPS, Needs("steps", (0,)), Needs("phases", ((),))),
    ),
    Field("steps", 0, "number of training steps; 0: use epochs", check=not_negative, needs=(_STEPS,)),
    Field(
        "optimizer",
        "adamw",
        "adam, adamw, sgd (with Nesterov momentum), any optimizer of Optax such as lion, or module:function",
        needs=(_STEPS,),
        phase=True,
    ),
    Field("learning_rate", 1e-3, "peak learning rate", check=positive, needs=(_STEPS,), phase=True),
    Field(
        "momentum",
        0.9,
        "momentum of sgd, rmsprop, lars, sm3 and adafactor",
        needs=(_STEPS, Needs("optimizer", ("sgd", "rmsprop", "lars", "sm3", "adafactor"), own=True)),
        phase=True,
    ),
    Field(
        "weight_decay",
        0.0,
        "weight decay of kernels alone, not of biases, scales or positions; decoupled for adamw, an L2 term otherwise",
        check=not_negative,
        needs=(_STEPS,),
        phase=True,
    ),
    Field(
        "schedule",
        "constant",
        "constant; cosine (to 0); step; inverse_time: rate / (1 + rate_decay * step); module:function",
        needs=(_STEPS,),
        phase=True,
    ),
    Field("warmup_epochs", 0.0, "epochs of linear warmup from 0", check=not_negative, needs=(_STEPS,), phase=True),
    Field(
        "step_epochs",
        (),
        "schedule step: epochs at which the learning rate is multiplied by step_factor",
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
        "schedule inverse_time: the decay rate, named decay in Keras' SGD",
        check=not_negative,
        needs=(_STEPS, Needs("schedule", ("inverse_time",))),
        phase=True,
    ),
    Field(
        "clip_norm",
        0.0,
        "clip the gradient to this global norm; 0: do not clip",
        check=not_negative,
        needs=(_STEPS,),
        phase=True,
    ),
    Field("label_smoothing", 0.0, "label smoothing: probability spread over all classes", check=share, needs=(_STEPS,)),
    Field(
        "accumulate",
        1,
        "micro-batches per step, to fit a large batch in memory; auto: as few as fit",
        check=count_or_auto,
        auto=int,
        needs=(_STEPS,),
    ),
    Field(
        "ema",
        0.0,
        "decay of an exponential moving average of the trainable parameters, which is evaluated instead; 0: none",
        check=share,
        needs=(_STEPS,),
    ),
    # Resuming may change what a run that one of these three stopped should do.
    Field(
        "on_nan",
        "stop",
        "if a loss, gradient or update is not finite: stop, or rollback to the newest checkpoint and skip the step",
        choices=("stop", "rollback"),
        needs=(_STEPS,),
        resume=True,
    ),
    Field(
        "max_rollbacks",
        3,
        "on_nan rollback: most steps to skip",
        check=positive,
        needs=(_STEPS, Needs("on_nan", ("rollback",))),
        resume=True,
    ),
    Field(
        "spike_norm",
        0.0,
        "treat a gradient norm above this as not finite; 0: no limit",
        check=not_negative,
        needs=(_STEPS,),
        resume=True,
    ),
    Field(
        "early_stopping",
        0,
        "stop after this many evaluations without improvement on validation; 0: never",
        check=not_negative,
        needs=(_STEPS, Needs("validation")),
    ),
    Field("seed", 0, "random seed of initialization, order, augmentation and splits"),
)

MACHINE = (
    Field(
        "dtype",
        "float32",
        "type of computation; parameters, statistics and loss stay float32",
        choices=("float32", "bfloat16"),
    ),
    Field(
        "parallel",
        "jit",
        "jit: one program over a mesh of devices; pmap: one program per device",
        choices=("jit", "pmap"),
    ),
    Field(
        "mesh",
        {"data": -1, "fsdp": 1},
        "data: copies of the state; fsdp: shards of each copy; -1: as many as there are devices",
        resume=True,
    ),
    Field("eval_batch_size", 64, "batch size of evaluation, over all devices", check=positive, resume=True),
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
        "seconds without a heartbeat after which a process counts as dead, and the others exit",
        check=positive,
        resume=True,
    ),
)

CADENCE = (
    Field(
        "metrics",
        (),
        "more metrics to evaluate: top3_accuracy, top5_accuracy, brier_score, label_f1, module:function",
        element=str,
    ),
    Field(
        "select_by",
        "",
        "metric that ranks checkpoints, with a minus where less is better: -loss; empty: accuracy (wise_ft: the last)",
        needs=(_STEPS, Needs("validation")),
    ),
    Field(
        "callbacks",
        (),
        "called after each step, epoch and evaluation, may stop the run: stop_when_perfect, module:function",
        element=str,
        needs=(_STEPS,),
        resume=True,
    ),
    Field(
        "trackers",
        (),
        "also log to these: wandb, mlflow, module:Class; one that fails is a warning, and never stops the run",
        element=str,
        resume=True,
    ),
    Field("log_every", 20, "steps between log lines", check=positive, resume=True),
    Field(
        "evaluate_every",
        1.0,
        "epochs between evaluations; each saves a checkpoint",
        check=positive,
        needs=(_STEPS,),
    ),
    Field("checkpoint_every", 0, "steps between additional checkpoints; 0: none", check=not_negative, resume=True),
    # Two, to have one to fall back on.
    Field(
        "keep_last", 2, "newest checkpoints to keep, in addition to the best on validation", check=positive, resume=True
    ),
    Field(
        "keep_every",
        0,
        "also keep the first checkpoint after every this many steps; 0: none",
        check=not_negative,
        resume=True,
    ),
)

COMPARISON = (
    Field(
        "arms",
        (),
        "((name, {field: value}), ...): train each arm in turn, and test all on the same images",
        element=tuple[str, dict[str, Any]],
    ),
)
