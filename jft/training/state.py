"""The training state of a run: how to initialize it, pass it to the next phase, save and restore it."""

import dataclasses
import json
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jft.data.record import DataRecord
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.models import abstract_variables, initialize
from jft.training import earlier_run, known_rows, noted_images, optim, taught
from jft.training.phases import Phase
from jft.training.run import Run
from jft.training.step import TrainState
from jft.utils import distributed, registry, tree
from jft.utils.checkpoint import CheckpointRefusedError, Checkpoints
from jft.utils.option_names import option
from jft.utils.run_folder import is_run
from jft.weights import hub, licenses, pretrained


def initial_state(run: Run) -> tuple[TrainState, CheckpointInfo]:
    """The state to start from: the newest checkpoint or, without one, pretrained weights over initial values.

    Returns:
      The state on the devices, and the info of all further checkpoints, with the evaluations so far and the leaves
      that came from pretrained weights.

    Raises:
      ValueError: the weights are unavailable, see `pretrained.overlay`; or the checkpoint was trained on other data.
    """
    if distributed.from_first((run.workdir / "config.json").exists()):
        checkpoints = Checkpoints(run.workdir, from_json=CheckpointInfo.from_json)
        try:
            found = checkpoints.latest(lambda info: abstract_items(run, info))
        except ValueError as error:
            if "tree structures do not match" in str(error) and registry.is_own(run.config.optimizer):
                raise ValueError(
                    f"{error} The state of optimizer = {run.config.optimizer!r} is not what it was when the checkpoint "
                    f"was saved: make the optimizer as it was then, or give another {option('workdir')}."
                ) from error
            raise
        finally:
            checkpoints.close()
        if found is not None:
            return resumed_state(run, *found)
    return fresh_state(run)


def check_weights(run: Run) -> None:
    """Raises a ValueError if the weights of a run are neither on this machine nor can be downloaded; reads none."""
    if run.row and not (run.workdir / "config.json").exists() and not is_run(run.config.weights_path):
        with licenses.accepting(run.config.accept_license):
            hub.check_obtainable(run.row, run.config.weights_path or None)


def fresh_state(run: Run) -> tuple[TrainState, CheckpointInfo]:
    """As `initial_state`, for a run without checkpoints."""

    def draw(only: Collection[str] | None = None) -> dict[str, Any]:
        return initialize(run.model, run.spec.size, run.config.seed, head_init=run.config.head_init, only=only)

    if run.row:
        shapes = abstract_variables(run.model, run.spec.size)
        with licenses.accepting(run.config.accept_license), earlier_run.weights_file(run) as path:
            how = {"weights_path": path, "fresh": run.config.fresh}
            variables, loaded, manifest = pretrained.overlay(shapes, draw, run.row, **how)
            if not run.config.fresh_head:
                variables = known_rows.keep(run, variables, path)
    else:
        variables, loaded, manifest = draw(), frozenset(), {}
    same = "give every process the same weights file (weights_path), or none."
    distributed.agree({"the weights' SHA-256": manifest.get("source_sha256")}, remedy=same)
    variables = run.parallel.place_state(variables)
    phase = run.phases[0]
    state = TrainState(
        step=run.parallel.place_state(np.zeros((), np.int32)),
        opt_state=_fresh_opt_state(run, phase, variables["params"]),
        ema=_copied(phase, variables["params"]) if run.config.ema else {},
        start=_begun(phase, variables) if phase.keeps_start else {},
        **variables,
    )
    # Where all leaves are fresh, none comes from the weights.
    info = dataclasses.replace(run.info(), weights=manifest if loaded else {}, pretrained=tuple(sorted(loaded)))
    return taught.with_teacher(run, state, info)


def enter_phase(run: Run, phase: Phase, state: TrainState) -> TrainState:
    """The initial state of a phase, from the final state of the phase before.

    Leaves that stay trainable keep their optimizer state and moving average; newly trainable leaves get fresh ones.
    """
    opt_state = optim.carry_over(state.opt_state, _fresh_opt_state(run, phase, state.params))
    ema = {}
    if run.config.ema:
        known, trainable = tree.flatten(state.ema), tree.flatten(phase.plan.split(state.params)[0])
        ema = tree.unflatten({name: known[name] if name in known else jnp.copy(x) for name, x in trainable.items()})
    start = _begun(phase, state.variables) if phase.keeps_start else {}
    return run.parallel.place_state(state.replace(opt_state=opt_state, ema=ema, start=start))


def _copied(phase: Phase, params: Any) -> Any:
    """A copy of the trainable parameters; the training step donates the originals."""
    return jax.tree.map(jnp.copy, phase.plan.split(params)[0])


def _begun(phase: Phase, variables: Any) -> Any:
    """A copy of what a phase changes; the training step donates the originals."""
    return jax.tree.map(jnp.copy, changed(phase, variables))


def changed(phase: Phase, variables: Any) -> Any:
    """The trainable parameters, and the BatchNorm statistics that training updates."""
    return {
        "params": phase.plan.split(variables["params"])[0],
        "batch_stats": phase.plan.moving(variables["batch_stats"]),
    }


def _fresh_opt_state(run: Run, phase: Phase, params: Any) -> Any:
    shardings = run.parallel.shardings(phase.init.eval_shape(params))
    return jax.jit(phase.init, out_shardings=shardings)(params)


def optimizer_items(state: TrainState) -> dict[str, Any]:
    """The part of a checkpoint that only resuming needs: `{'step', 'opt_state'}`, and `'start'` where there is one.

    With a moving average, the checkpoint's variables hold the average, and `'learning'` the parameters themselves.
    """
    items = {"step": state.step, "opt_state": state.opt_state, **({"start": state.start} if state.start else {})}
    if not state.ema:
        return items
    params = tree.flatten(state.params)
    return {**items, "learning": tree.unflatten({name: params[name] for name in tree.flatten(state.ema)})}


def resumed_state(run: Run, variables: Any, optimizer: Any, saved: CheckpointInfo) -> tuple[TrainState, CheckpointInfo]:
    """As `initial_state`, from the contents of a checkpoint."""
    average = {}
    if "learning" in optimizer:
        trained, params = tree.flatten(optimizer.pop("learning")), tree.flatten(variables["params"])
        average = tree.unflatten({name: params[name] for name in trained})
        variables = {**variables, "params": tree.unflatten({**params, **trained})}
    state, info = taught.with_teacher(run, TrainState(**variables, **optimizer, ema=average), run.info())
    if info.teacher != saved.teacher:
        was, now = (f"had the variables {told}" if told else "was none" for told in (saved.teacher, info.teacher))
        raise CheckpointRefusedError(
            f"{run.workdir} was begun with another teacher, which {was}; here {now}. Set teacher as it was, to the run "
            f"as it was, or give another {option('workdir')}."
        )
    return state, _resumed_info(info, saved)


def _resumed_info(now: CheckpointInfo, saved: CheckpointInfo) -> CheckpointInfo:
    """Config, versions and devices of now, with what the run has found out and decided so far."""
    return dataclasses.replace(
        now,
        trained_on=_with_digest(now.trained_on, saved.trained_on),
        validated_on=now.validated_on and _with_digest(now.validated_on, saved.validated_on),
        accumulate=saved.accumulate,
        weights=saved.weights,
        pretrained=saved.pretrained,
        cached=saved.cached,
        history=saved.history,
        temperature=saved.temperature,
        window=saved.window,
        test_digest=saved.test_digest,
        stopped=saved.stopped,
    )


def _with_digest(now: DataRecord, saved: DataRecord | None) -> DataRecord:
    """A record with the digest that was computed when the run began."""
    return dataclasses.replace(now, digest=now.digest or (saved.digest if saved else None))


def abstract_items(run: Run, saved: CheckpointInfo) -> tuple[Any, Any]:
    """Shapes and shardings of the `variables` and `optimizer` of a checkpoint of the run.

    Raises:
      CheckpointRefusedError: it was trained on other data, or is of another network.
    """
    names, were = list(run.train_source.class_names), list(saved.class_names)
    changed = noted_images.differences(run, saved)
    if were != names:
        changed.insert(0, f"class_names was {were} and is {names}")
    if changed:
        raise CheckpointRefusedError(
            f"{run.workdir} was trained on other data: {'; '.join(changed)}. "
            f"Put the data back, or give another {option('workdir')}."
        )
    was, now = saved.options, json.loads(json.dumps(run.model_options))  # a checkpoint has lists for tuples
    if was != now:
        raise CheckpointRefusedError(
            f"{run.workdir} was begun with another network by jft {saved.jft}: its options were {was}, here "
            f"{now}. The run can be evaluated and used for prediction; to train, give another {option('workdir')}."
        )
    state = abstract_state(run, run.phase_after(saved.step))
    return state.variables, optimizer_items(state)


def abstract_state(run: Run, phase: Phase) -> TrainState:
    """Shapes and shardings of the state within a phase."""
    variables = abstract_variables(run.model, run.spec.size)
    state = TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32),
        opt_state=phase.init.eval_shape(variables["params"]),
        ema=phase.plan.split(variables["params"])[0] if run.config.ema else {},
        start=changed(phase, variables) if phase.keeps_start else {},
        teacher=run.teacher.shapes if run.teacher else {},
        **variables,
    )
    return run.parallel.abstract(state)
