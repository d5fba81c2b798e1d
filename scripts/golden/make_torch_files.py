"""Makes tests/golden/torch_{zip,legacy}.pth: one state dict with every kind of tensor that jft reads.

    python scripts/golden/make_torch_files.py tests/golden

Needs torch (made with 2.13). tests/weights/test_readers.py knows what the files hold.
"""

import collections
import pathlib
import sys

import torch


def main(folder: pathlib.Path) -> None:
    """Writes both files into `folder`."""
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 8
    tensors = {
        "float": base.clone(),
        "transposed": base.clone().permute(2, 0, 1),
        "window": base[1, 1:, ::2],  # an offset and a step into a storage that it shares
        "shared": base,
        "parameter": torch.nn.Parameter(base[0].clone()),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "half": base[0].half(),
        "bfloat16": base[0].bfloat16(),
        "double": base[0].double(),
        "long": torch.arange(-2, 2),
        "int": torch.arange(-2, 2, dtype=torch.int32),
        "short": torch.arange(-2, 2, dtype=torch.int16),
        "char": torch.arange(-2, 2, dtype=torch.int8),
        "byte": torch.arange(4, dtype=torch.uint8),
        "bool": torch.arange(4) % 2 == 0,
    }
    # As nn.Module.state_dict() and DataParallel leave it: ordered, with _metadata, under 'module.', in a checkpoint.
    state = collections.OrderedDict((f"module.{name}", tensor) for name, tensor in tensors.items())
    state._metadata = {"": {"version": 1}}
    for name, zipped in {"torch_zip.pth": True, "torch_legacy.pth": False}.items():
        torch.save({"epoch": 3, "state_dict": state}, folder / name, _use_new_zipfile_serialization=zipped)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
