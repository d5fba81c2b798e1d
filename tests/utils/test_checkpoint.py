"""Checkpoints: what goes in comes out, what is damaged is noticed, and the one before it is used."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jft.utils.checkpoint import CheckpointRefusedError, Checkpoints
from jft.utils.mesh import make_parallel

TX = optax.selective_transform(optax.adam(0.1), freeze_mask={"a": True, "head": False})


def make(value):
    noise = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)  # so that it does not compress
    params = {"a": noise + np.float32(value), "head": noise + np.float32(value)}
    opt_state = jax.tree.map(lambda leaf: leaf + 1, TX.init(params))
    return {"params": params, "batch_stats": {}}, {"step": jnp.int32(value), "opt_state": opt_state}


def abstract(meta=None):
    sharding = NamedSharding(make_parallel("jit").mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), make(0.0))


def save(workdir, steps, accuracies=None):
    checkpoints = Checkpoints(workdir)
    history = []
    for i, step in enumerate(steps):
        history = [*history, {"step": step, "accuracy": accuracies[i], "loss": 1.0}] if accuracies else []
        checkpoints.save(step, *make(float(step)), {"jft": "0", "history": history})
    checkpoints.wait()
    checkpoints.close()


def test_round_trip_and_retention(tmp_path):
    save(tmp_path, [1, 2, 3, 4, 5], [0.1, 0.9, 0.2, 0.3, 0.4])
    checkpoints = Checkpoints(tmp_path)
    variables, optimizer, meta = checkpoints.latest(abstract)
    jax.tree.map(np.testing.assert_array_equal, (variables, optimizer), make(5.0))
    assert jax.tree.structure(optimizer) == jax.tree.structure(make(5.0)[1])
    assert meta["step"] == 5 and len(meta["history"]) == 5
    # The last two and the best.
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == ["2", "4", "5"]
    checkpoints.close()
    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.best(lambda meta: (abstract()[0], None))[2]["step"] == 2
    reader.close()


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.unlink()], ids=["cut", "flipped", "missing"])
@pytest.mark.parametrize("item", ["variables", "optimizer", "meta"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_used(tmp_path, damage, item, caplog):
    save(tmp_path, [1, 2])
    if item == "meta":
        damage(tmp_path / "checkpoints" / "2" / "meta" / "metadata")
    else:
        damage(largest(tmp_path / "checkpoints" / "2" / item))
    checkpoints = Checkpoints(tmp_path)
    variables, _, meta = checkpoints.latest(abstract)
    assert meta["step"] == 1
    assert "Falling back to checkpoint 1" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, variables, make(1.0)[0])
    # The damaged one is kept aside, and its step can be saved again.
    assert (tmp_path / "checkpoints" / "unreadable-2").is_dir()
    checkpoints.save(2, *make(2.0), {"jft": "0"})
    checkpoints.wait()
    assert checkpoints.latest(abstract)[2]["step"] == 2
    checkpoints.close()


def test_a_changed_digit_in_what_a_checkpoint_says_is_noticed(tmp_path, caplog):
    """It is JSON all the same, and was believed once: the best checkpoint is chosen by it."""
    save(tmp_path, [1, 2], [0.1, 0.9])
    path = tmp_path / "checkpoints" / "2" / "meta" / "metadata"
    path.write_text(path.read_text().replace("0.9", "0.3"))
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest(abstract)[2]["history"] == [{"step": 1, "accuracy": 0.1, "loss": 1.0}]
    checkpoints.close()
    assert "Falling back to checkpoint 1" in caplog.text and "was changed or damaged" in caplog.text


@pytest.mark.parametrize(
    ("name", "needed"),
    [("manifest.ocdbt", True), ("variables", True), ("_METADATA", False), ("_CHECKPOINT_METADATA", False)],
)
def test_a_missing_file_is_noticed_or_not_needed(tmp_path, name, needed, caplog):
    save(tmp_path, [1, 2])
    newest = tmp_path / "checkpoints" / "2"
    found = [path for path in (newest / name, newest / "variables" / name) if path.exists()]
    assert found
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    checkpoints = Checkpoints(tmp_path)
    variables, _, meta = checkpoints.latest(abstract)
    jax.tree.map(np.testing.assert_array_equal, variables, make(float(meta["step"]))[0])
    assert meta["step"] == (1 if needed else 2)
    checkpoints.close()


def test_retention(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_last=3, keep_every=10)
    history = []
    for step in (4, 8, 12, 16, 20, 24, 28, 32, 36):
        history = [*history, {"step": step, "accuracy": 1.0 if step == 8 else 0.5, "loss": 1.0}]
        checkpoints.save(step, *make(float(step)), {"jft": "0", "history": history})
    checkpoints.wait()
    checkpoints.close()
    # The best; the first after 10, 20 and 30; the last three.
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [8, 12, 20, 28, 32, 36]


def test_any_number_of_devices(tmp_path, monkeypatch):
    """Saved on eight, read on one and on four, saved there, and read on eight."""
    monkeypatch.setattr("jft.utils.mesh.SMALLEST_CUT", 16)
    grid = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    eight = make_parallel("jit", {"data": 2, "fsdp": 4})
    one, four = make_parallel("jit", None, jax.devices()[:1]), make_parallel("jit", {"fsdp": 4}, jax.devices()[:4])
    state, optimizer = eight.place_state(({"a": grid}, {"step": np.int32(7)}))
    for step, parallel in enumerate((one, four, eight)):
        wanted = parallel.abstract((state, optimizer))
        writer = Checkpoints(tmp_path)
        writer.save(step, state, optimizer, {"jft": "0"})
        writer.wait()
        writer.close()
        reader = Checkpoints(tmp_path, read_only=True)
        state, optimizer, meta = reader.latest(lambda meta, wanted=wanted: wanted)
        reader.close()
        assert meta["step"] == step
        np.testing.assert_array_equal(state["a"], grid)
        assert state["a"].sharding.is_equivalent_to(parallel.sharding_of(grid.shape), 2)


def test_what_one_of_several_processes_cannot_read(tmp_path, monkeypatch):
    """It cannot know what the others read, and may not wait for them: it leaves, and the next start falls back."""
    save(tmp_path, [1, 2])
    for step in "12":
        cut(largest(tmp_path / "checkpoints" / step / "variables"))
    monkeypatch.setattr("jft.utils.distributed.several", lambda: True)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(RuntimeError, match=r"checkpoint 2: .* It is set aside: start all processes again"):
        checkpoints.latest(abstract)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint 1: .* Mend it, or take it away from"):  # or all would begin anew
        checkpoints.latest(abstract)
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1", "unreadable-2"]


def test_nothing_readable_is_an_error(tmp_path):
    save(tmp_path, [1])
    cut(largest(tmp_path / "checkpoints" / "1" / "variables"))
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read; checkpoint 1: "):
        checkpoints.latest(abstract)
    checkpoints.close()


def test_reading_changes_nothing(tmp_path):
    save(tmp_path, [1, 2])
    cut(largest(tmp_path / "checkpoints" / "2" / "variables"))
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.best(lambda meta: (abstract()[0], None))[2]["step"] == 1
    reader.close()
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match="elsewhere: give the folder that `jft train` wrote"):
        Checkpoints(tmp_path / "elsewhere", read_only=True)


def test_another_format_is_refused_not_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr("jft.utils.checkpoint.FORMAT", 99)
    save(tmp_path, [1])
    monkeypatch.undo()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(
        CheckpointRefusedError, match="has format 99, this jft reads 3: train anew, or use the jft that wrote it"
    ):
        checkpoints.latest(abstract)
    checkpoints.close()


def test_a_fallback_sets_aside_only_what_failed(tmp_path):
    save(tmp_path, [1, 2, 3], [0.9, 0.1, 0.2])
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.best(lambda meta: (abstract()[0], None))[2]["step"] == 1
    checkpoints.close()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["1", "2", "3"]
    cut(largest(tmp_path / "checkpoints" / "1" / "variables"))
    checkpoints = Checkpoints(tmp_path, read_only=True)
    assert checkpoints.best(lambda meta: (abstract()[0], None))[2]["step"] == 3
    checkpoints.close()


def test_a_kill_while_an_old_checkpoint_is_deleted_leaves_no_half_of_it(tmp_path, monkeypatch):
    def killed(*arguments, **options):
        raise SystemExit("killed")

    monkeypatch.setattr("jft.utils.checkpoint.shutil.rmtree", killed)
    with pytest.raises(SystemExit):
        save(tmp_path, [1, 2, 3, 4])
    monkeypatch.undo()
    folder = tmp_path / "checkpoints"
    assert not (folder / "1").exists() and (folder / "retired").is_dir()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest(abstract)[2]["step"] in (3, 4)
    checkpoints.close()
    assert not (folder / "retired").exists()
