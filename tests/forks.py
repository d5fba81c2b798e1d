"""Processes forked from one that has imported everything, in which scripts/train.py starts at once."""

import os
import runpy
import sys
import traceback
from pathlib import Path

from small_vgg import register

import jft.cli.arms  # which train.py imports as late as it can
import jft.training.feature_cache  # noqa: F401
from jft.utils import runtime

SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"


def prepare():
    """Once, before the first fork: imports what is left, and makes the small network a model of the zoo."""
    runtime.configure()
    register()


def fork(work, out):
    """Calls `work()` in a process of its own, whose output is appended to the file `out`; its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    told = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(told, 1)
    os.dup2(told, 2)
    status = 1
    try:
        work()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def wait(child):
    """Until it ends; its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train_script(folder, name, *flags):
    """scripts/train.py with `<folder>/config.py`, for the run `<folder>/<name>` with features of its own."""
    sys.argv = ["train.py", "--config", f"{folder}/config.py", "--workdir", f"{folder}/{name}", "--no_report"]
    sys.argv += [f"--config.features_dir={folder}/features-{name}", *flags]
    runpy.run_path(str(SCRIPT), run_name="__main__")
