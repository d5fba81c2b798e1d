"""Makes tests/golden/resnet20-12fca82f.json: type, shape and CRC-32 of each tensor of a torch file, as torch reads it.

    python scripts/golden/make_torch_crc.py resnet20-12fca82f.th tests/golden

Needs torch (made with 2.13). The file is github.com/akamaster/pytorch_resnet_cifar10's pretrained ResNet-20; the first
digits of its SHA-256 end its name.
"""

import json
import pathlib
import sys
import zlib

import torch


def main(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes `{name: [dtype, shape, CRC-32 of the bytes]}`, a tensor per line, named as the file is."""
    tensors = torch.load(source, map_location="cpu", weights_only=True)["state_dict"]
    facts = {}
    for name, tensor in tensors.items():
        array = tensor.detach().contiguous().numpy()
        facts[name.removeprefix("module.")] = [str(array.dtype), list(array.shape), zlib.crc32(array)]
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(fact)}" for name, fact in facts.items())
    (folder / f"{source.stem}.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
