"""What a checkpoint says, for tests that read it and train nothing."""

import dataclasses
import json
from pathlib import Path

from jft.evaluation.checkpoint_info import CheckpointInfo

GOLDEN = Path(__file__).parent / "golden" / "checkpoint_metadata.json"  # of a real run


def info_of(**changes):
    """That of the real run, with other values of some attributes."""
    return dataclasses.replace(CheckpointInfo.from_json(json.loads(GOLDEN.read_text())), **changes)
