"""The config that a run was trained with, from its checkpoint."""

from pathlib import Path

from jft.config import Config, default_config, effective
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.restore import parallel_of


def recorded_config(workdir: str | Path, info: CheckpointInfo) -> Config:
    """The config of a run, with its data where they are now, and a mesh that this machine has.

    Args:
      workdir: folder of the run, for the error.
      info: of its checkpoint.

    Raises:
      ValueError: a newer jft wrote it, with fields that this one does not know.
    """
    config = default_config()
    if unknown := [name for name in info.config if name not in config]:
        raise ValueError(
            f"{workdir} was written by jft {info.jft}, and this jft does not know {unknown} of its config: use that "
            "version."
        )
    data_dir = info.trained_on.place(info.config["data_dir"])
    config.update({**info.config, "data_dir": data_dir, "mesh": dict(parallel_of(info).mesh.shape)})
    config.update(effective(config.to_dict()))
    return config
