"""Vision Transformers. torchvision resamples no positions when it runs: timm's function does it for both."""

import torch

from families import Reference

_SIZES = (224, 96)

TORCHVISION = {f"vit_base_patch{patch}": Reference(f"vit_b_{patch}", _SIZES) for patch in (16, 32)}
TIMM = {
    name: Reference(f"{name}_224", _SIZES, {"dynamic_img_size": True})
    for name in (
        *(f"vit_{size}_patch16" for size in ("tiny", "small", "base")),
        *(f"vit_{size}_patch32" for size in ("small", "base")),
        *(f"deit3_{size}_patch16" for size in ("small", "medium", "base")),
    )
}
# Published without a classifier; a seeded one is proved beside the rest.
TIMM |= {
    name: Reference(name, (224, 98), {"dynamic_img_size": True, "num_classes": 1000})
    for name in (f"vit_{size}_patch14_{reg4}dinov2" for size in ("small", "base") for reg4 in ("", "reg4_"))
}
DINOV2 = {
    f"vit_{size}_patch14_{'reg4_' * registers}dinov2": Reference(
        f"dinov2_vit{size[0]}14{'_reg' * registers}", (224, 98)
    )
    for size in ("small", "base")
    for registers in (False, True)
}


def torchvision_stages(model: torch.nn.Module) -> dict[str, str]:
    """The embeddings are what the dropout after them gives."""
    blocks = {f"block{i + 1}": f"encoder.layers.encoder_layer_{i}" for i in range(len(model.encoder.layers))}
    return {"embed": "encoder.dropout", **blocks, "norm": "encoder.ln", "head": "heads"}


def timm_stages(model: torch.nn.Module) -> dict[str, str]:
    """The embeddings are what the dropout of patches after them gives."""
    blocks = {f"block{i + 1}": f"blocks.{i}" for i in range(len(model.blocks))}
    return {"embed": "patch_drop", **blocks, "norm": "norm", "head": "head"}


def dinov2_stages(model: torch.nn.Module) -> dict[str, str]:
    """The embeddings are what the first block reads."""
    return timm_stages(model) | {"embed": "blocks.0:input"}


def torchvision_at(model: torch.nn.Module, size: int) -> None:
    """Resamples the position embeddings as timm does, and keeps the original ones for the next size."""
    from timm.layers import resample_abs_pos_embed  # only after torch_model

    original = model.encoder.__dict__.setdefault("original", model.encoder.pos_embedding.data)
    grid = [size // model.patch_size] * 2
    model.encoder.pos_embedding.data = resample_abs_pos_embed(original, grid)
    model.image_size = size
