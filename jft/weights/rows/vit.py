"""Weight sets of Vision Transformers: torchvision's, and timm's of AugReg, DeiT, DeiT-3, DINOv2 and others."""

from jft.data.preprocess import Preprocess
from jft.weights.rows import row
from jft.weights.rows.preprocessing import IMAGENET, cropped, half
from jft.weights.rows.row import WeightSet

# crop_pct 0.9 of timm's, where a set says nothing else.
_HALF = half(resize=248, interpolation="bicubic")
_IMAGENET = cropped(0.9)
_WHOLE = cropped(1.0)

# As its authors evaluate DINOv2 on ImageNet (dinov2/data/transforms.py), though it was last trained on 518 pixels, the
# grid of its positions: jft's default gives 16 x 16 patches in place of 37 x 37.
_DINOV2 = Preprocess(resize=256, interpolation="bicubic")

# Parameters; those without a classifier are its 1000 x width + 1000 fewer. Files hold nothing else, in float32.
_PARAMS = {
    "vit_tiny_patch16": 5_717_416,
    "vit_small_patch16": 22_050_664,
    "vit_small_patch32": 22_878_952,
    "vit_base_patch16": 86_567_656,
    "vit_base_patch32": 88_224_232,
    "deit3_small_patch16": 22_059_496,
    "deit3_medium_patch16": 38_849_512,
    "deit3_base_patch16": 86_585_320,
    "vit_small_patch14_dinov2": 22_441_192,
    "vit_base_patch14_dinov2": 87_348_712,
    "vit_small_patch14_reg4_dinov2": 22_442_344,
    "vit_base_patch14_reg4_dinov2": 87_351_016,
}
# Accuracies: huggingface/pytorch-image-models, results/results-imagenet.csv.
_TIMM = {
    # model: [recipe of timm's, top-1, top-5, preprocessing]
    "vit_tiny_patch16": [("augreg_in21k_ft_in1k", 75.452, 92.858, _HALF)],
    "vit_small_patch16": [
        ("augreg_in21k_ft_in1k", 81.402, 96.150, _HALF),
        ("augreg_in1k", 78.842, 94.280, _HALF),
    ],
    "vit_small_patch32": [("augreg_in21k_ft_in1k", 76.010, 93.266, _HALF)],
    "vit_base_patch16": [
        ("augreg2_in21k_ft_in1k", 85.108, 97.530, _HALF),
        ("augreg_in21k_ft_in1k", 84.534, 97.300, _HALF),
        ("augreg_in1k", 79.154, 94.108, _HALF),
        ("orig_in21k_ft_in1k", 81.782, 96.122, _HALF),
        ("sam_in1k", 80.246, 94.764, _HALF),
    ],
    "vit_base_patch32": [
        ("augreg_in21k_ft_in1k", 80.732, 95.574, _HALF),
        ("augreg_in1k", 74.908, 91.770, _HALF),
        ("sam_in1k", 73.704, 91.012, _HALF),
    ],
    "deit3_small_patch16": [
        ("fb_in22k_ft_in1k", 83.082, 96.774, _WHOLE),
        ("fb_in1k", 81.382, 95.454, _IMAGENET),
    ],
    "deit3_medium_patch16": [
        ("fb_in22k_ft_in1k", 84.550, 97.180, _WHOLE),
        ("fb_in1k", 83.090, 96.284, _IMAGENET),
    ],
    "deit3_base_patch16": [
        ("fb_in22k_ft_in1k", 85.728, 97.746, _WHOLE),
        ("fb_in1k", 83.800, 96.584, _IMAGENET),
    ],
}
_DEIT = {"tiny": (72.190, 91.100), "small": (79.856, 95.056), "base": (81.980, 95.740)}


def _timm(
    model: str,
    name: str,
    tag: str,
    top1: float | None,
    top5: float | None,
    preprocess: Preprocess,
    headless: int = 0,
) -> WeightSet:
    """A set of timm's; `headless`: the width of a network whose file has no classifier."""
    params = _PARAMS[model] - 1000 * (headless + 1) * bool(headless)
    return row.timm(
        model, name, params, round(params * 4 / 2**20, 1), top1, top5, preprocess, tag=tag, top=not headless
    )


def _dinov2(size: str, registers: bool) -> WeightSet:
    """A set of https://github.com/facebookresearch/dinov2 as its authors publish it.

    It resamples positions as they do. The file holds a token for masked patches too, which is not counted.
    """
    width = {"small": 384, "base": 768}[size]
    model, short = f"vit_{size}_patch14_{'reg4_' * registers}dinov2", f"dinov2_vit{size[0]}14"
    file = f"{short}{'_reg4' * registers}_pretrain.pth"
    # Where there are registers, timm has added the class token's position to the token.
    params = _PARAMS[model] - 1000 * (width + 1) + width * registers
    return WeightSet(
        model=model,
        tag="dinov2",
        dialect="dinov2",
        filename=file,
        url=f"https://dl.fbaipublicfiles.com/dinov2/{short}/{file}",
        sha256=None,
        md5=None,
        size=round((params + width) * 4 / 2**20, 1),
        license="Apache-2.0",
        num_params=params,
        top1=None,
        top5=None,
        preprocess=_DINOV2,
        options={"class_position": True} if registers else {"resize": "offset"},
        top=False,
    )


ROWS = [
    row.torchvision("vit_base_patch16", "vit_b_16-c867db91", 86_567_656, 330.285, 81.072, 95.318, IMAGENET),
    row.torchvision("vit_base_patch32", "vit_b_32-d86f8d99", 88_224_232, 336.604, 75.912, 92.466, IMAGENET),
    *(
        _timm(model, f"{model}_224.{recipe}", recipe, top1, top5, preprocess)
        for model, sets in _TIMM.items()
        for recipe, top1, top5, preprocess in sets
    ),
    *(
        _timm(f"vit_{size}_patch16", f"deit_{size}_patch16_224.fb_in1k", "deit", *accuracies, _IMAGENET)
        for size, accuracies in _DEIT.items()
    ),
    # Trained without labels (Caron et al., 2021, https://arxiv.org/abs/2104.14294).
    _timm("vit_small_patch16", "vit_small_patch16_224.dino", "dino", None, None, _IMAGENET, headless=384),
    _timm("vit_base_patch16", "vit_base_patch16_224.dino", "dino", None, None, _IMAGENET, headless=768),
    *(
        _timm(model, f"{model}.lvd142m", "lvd142m", None, None, _DINOV2, headless=width)
        for size, width in {"small": 384, "base": 768}.items()
        for model in (f"vit_{size}_patch14_dinov2", f"vit_{size}_patch14_reg4_dinov2")
    ),
    *(_dinov2(size, registers) for size in ("small", "base") for registers in (False, True)),
]
