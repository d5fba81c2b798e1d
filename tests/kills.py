"""Starts the runs of test_train_phases.py: python tests/kills.py FOLDER STEP...

The run 'whole' of `<folder>/config.py` is never killed. 'killed' is, once for each step, as it logs it: so neither in
time by chance nor too late; its checkpoints are copied, and in the end it goes on. What each start prints goes to
`<folder>/<number>.txt`, and for each a line is printed: name, step or 0, exit status.
"""

import os
import shutil
import signal
import sys

import forks

from jft.utils.logger import Logs


def train(folder, name, last):
    """Until a step is logged; 0: to the end."""
    write = Logs.write

    def killing(self, step, kind, values):
        write(self, step, kind, values)
        if kind == "train" and step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    Logs.write = killing
    forks.train_script(folder, name)


def main():
    folder, *steps = sys.argv[1:]
    forks.prepare()
    starts = [("whole", 0), *(("killed", int(step)) for step in steps), ("killed", 0)]
    for i, (name, last) in enumerate(starts):
        child = forks.fork(lambda name=name, last=last: train(folder, name, last), f"{folder}/{i}.txt")
        print(name, last, forks.wait(child), flush=True)
        if last:
            shutil.copytree(f"{folder}/{name}/checkpoints", f"{folder}/at_{last}")


if __name__ == "__main__":
    main()
