"""ResNets trained against adversarial examples, whose features transfer better than their accuracy says.

"Do Adversarially Robust ImageNet Models Transfer Better?" (Salman et al., 2020, https://arxiv.org/abs/2007.08489).
`l2_eps3` was trained on images that an attacker may move by 3 in the L2 norm, of pixels in [0, 1]; `l2_eps0` on images
as they are, by the same recipe. Accuracies, on images that nobody attacked: README.md of
github.com/microsoft/robust-models-transfer, whose own links expired in 2021; the authors' repository on the hub has the
files. They are checkpoints of github.com/MadryLab/robustness, which hold SGD's momentum too.
"""

from jft.weights.rows import row
from jft.weights.rows.preprocessing import IMAGENET

_URL = "https://huggingface.co/madrylab/robust-imagenet-models/resolve/main"
_EPSILONS = ("0", "0.01", "0.03", "0.05", "0.1", "0.25", "0.5", "1", "3", "5")
_TOP1 = {
    # model: parameters; top-1 for each epsilon
    "resnet18": (11_689_512, (69.79, 69.90, 69.24, 69.15, 68.77, 67.43, 65.49, 62.32, 53.12, 45.59)),
    "resnet50": (25_557_032, (75.80, 75.68, 75.76, 75.59, 74.78, 74.14, 73.16, 70.43, 62.83, 56.13)),
    "wide_resnet50_2": (68_883_240, (76.97, 77.25, 77.26, 77.17, 76.74, 76.21, 75.11, 73.41, 66.90, 60.94)),
}


def _row(model: str, epsilon: str, num_params: int, top1: float) -> row.WeightSet:
    file = f"{model}_l2_eps{epsilon}.ckpt"
    return row.WeightSet(
        model,
        tag=f"l2_eps{epsilon}",
        dialect="robustness",
        filename=file,
        url=f"{_URL}/{file}",
        sha256=None,
        md5=None,
        size=round(2 * 4 * num_params / 2**20, 1),  # weights and momentum
        license="MIT",
        num_params=num_params,
        top1=top1,
        top5=None,
        preprocess=IMAGENET,
    )


ROWS = [
    _row(model, epsilon, num_params, top1)
    for model, (num_params, accuracies) in _TOP1.items()
    for epsilon, top1 in zip(_EPSILONS, accuracies, strict=True)
]
