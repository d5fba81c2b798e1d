"""Trains what a config says: python scripts/train.py --config configs/vgg19_cifar10.py [--config.field=value ...]

The fields are those of jft/config.py, such as --config.learning_rate=0.01 or --config.data_dir=DIR.
The same command again resumes an interrupted run. Exit status: 0 done, 1 wrong input, 128 + n stopped by signal n.
Of several processes (--distributed), each is started with the same command.
"""

import re
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from jft import runtime

runtime.configure()

from jft import cluster  # noqa: E402
from jft.config import unknown_field  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file; fields: --config.field=value.")
for _name, (_default, _told) in cluster.FLAGS.items():
    _define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, str: flags.DEFINE_string}[type(_default)]
    _define(_name, _default, _told)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run. Default: runs/<name of the config file>.")


def main(argv: list[str]) -> int:
    """Trains; returns the exit status."""
    from jft.arms import train_arms

    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; fields of the config are set by --config.field=value.")
    path = Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0])
    config = _CONFIG.value
    timeouts = {name: config[name] for name in ("initialization_timeout", "heartbeat_timeout")}
    try:
        cluster.join_as(flags.FLAGS, **timeouts)
        return train_arms(config, _WORKDIR.value or str(Path("runs") / path.stem))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; a config that is not there or sets an unknown field or type is one line and not a traceback."""
    given = [value for flag, value in zip(argv, [*argv[1:], ""], strict=True) if flag in ("--config", "-config")]
    given += [argument.split("=", 1)[1] for argument in argv if re.match("--?config=", argument)]
    for path in given:
        if not Path(path.split(":")[0]).is_file():
            sys.exit(f"error: there is no config file {path}.")
    try:
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        message = unknown_field(error)
        if message is None:
            raise
        sys.exit(f"error: {message}")
    except (TypeError, ValueError, flags.Error) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    with cluster.failing_at_once():
        app.run(main, flags_parser=parse)
