"""Writes the report of a run as one self-contained HTML file."""

import shlex
import time
from pathlib import Path
from typing import Any

from jft.config import as_json, default_config
from jft.data.source import Source
from jft.evaluation import copies, evaluate, gradcam, results
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.load import from_trained
from jft.evaluation.report.parts import IMAGES, Parts
from jft.utils import distributed, waiting
from jft.utils.files import check_folder, written_whole
from jft.utils.logger import read_metrics
from jft.utils.option_names import option
from jft.utils.run_folder import check_run
from jft.utils.templates import environment
from jft.utils.version import __version__


def write_report(
    workdir: str | Path,
    *,
    split: str = "test",
    out: str | Path | None = None,
    stage: str | None = None,
    data: Source | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Evaluates a run and writes the report, atomically.

    Args:
      workdir: folder of the run.
      split: images to evaluate on, 'test' or 'validation'.
      out: the file; None: `<workdir>/report.html`.
      stage: stage for Grad-CAM; None: the last one with a feature map.
      data: the images that the run was trained on, where it was given them in memory.

    Returns:
      The file, and the result of `evaluate.evaluate`, which is written to `eval.json` too.

    Raises:
      ValueError: see `evaluate.evaluate` and `check_out`; or several processes.
    """
    if distributed.several():
        raise ValueError("a report is written by one process, and there are several: run `jft report RUN` on one host.")
    if not out:
        check_run(workdir)
    path = Path(out) if out else Path(workdir) / "report.html"
    check_out(path)
    start = time.perf_counter()
    predicted = evaluate.predict_run(workdir, evaluate.Images(split=split, dataset=data))
    seconds = time.perf_counter() - start
    waiting.doing("computing the figures, and drawing the page")
    result = evaluate.record(predicted)
    predictor = from_trained(predicted.trained, str(workdir), batch_size=IMAGES)
    stage = stage or gradcam.default_stage(predictor.model, predictor.spec.size)
    parts = Parts(predictor, predicted, result, stage, data)
    page = _render(workdir, parts, seconds)
    with written_whole(path) as aside:
        aside.write_text(page, encoding="utf-8", errors="replace")  # file names may not be valid UTF-8
    return path, result


def _render(workdir: str | Path, parts: Parts, seconds: float) -> str:
    """The page of a run; `seconds` is what it took to predict the images."""
    lines = read_metrics(Path(workdir))
    train, known = parts.known(len(parts.predicted.source) / seconds)
    info, result = parts.info, parts.result
    return (
        environment("jft.evaluation", "report", percent=" %")
        .get_template("report.html")
        .render(
            name=_name(Path(workdir).resolve()),
            data=info.trained_on.name,
            seen_before=results.seen_before(result),
            without_copies=copies.told(result),
            version=__version__,
            result=result,
            several=parts.predicted.source.multi_label,
            facts=parts.facts(lines),
            early=parts.early(lines),
            stages=parts.stages(),
            phases=parts.phases(lines),
            stage=parts.stage,
            charts=parts.charts(lines, seconds),
            grid=parts.grid(),
            matrix=parts.matrix(),
            losses=parts.losses(train, known),
            suspects=parts.suspects(train, known),
            repeated=parts.repeated(train, known),
            num_known=len(train),
            commands=_commands(info, workdir),
        )
    )


def check_out(path: Path) -> None:
    """Raises a ValueError if the page cannot be written, or would replace a file that is no report of jft."""
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: give a file in a folder that exists.")
    if path.exists() and b'name="generator" content="jft' not in path.read_bytes()[:2000]:
        raise ValueError(f"{path} exists and is not a report written by jft: give another {option('out')}.")
    check_folder(path.parent, f"give another {option('out')}")


def _name(workdir: Path) -> str:
    """Name of a run: its folder, after the folder of its experiment."""
    return "/".join(part for part in workdir.parts[-2:] if part != "runs")


def _commands(info: CheckpointInfo, workdir: str | Path) -> dict[str, str]:
    """The commands that reproduce the run, and the fields of its config that differ from the defaults."""
    defaults = as_json(default_config())
    changed = {key: value for key, value in info.config.items() if value != defaults.get(key)}
    commands = {
        "train": shlex.join(["jft", "train", "--config", f"{workdir}/config.json", "--workdir", "NEW_FOLDER"]),
        "evaluate": shlex.join(["jft", "evaluate", str(workdir)]),
    }
    if not info.trained_on.dataset:  # images in memory: only Python code can pass them
        commands = {
            "train": f"jft.train(config, data=data, workdir='NEW_FOLDER')  # {info.trained_on.count:,} in memory",
            "evaluate": f"jft.evaluate({str(workdir)!r}, data)",
        }
    return {
        **commands,
        "config": "\n".join(f"config.{key} = {value!r}" for key, value in changed.items()),
    }
