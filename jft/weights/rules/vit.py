"""Vision Transformers in torchvision's and timm's names, and in those of DINOv2's authors, which timm took over."""

from collections.abc import Callable

from jft.models.vit import ViT
from jft.weights.rules.rule import Family, Rule, Rules, synonyms, torch_dense, torch_layer, torch_layer_norm
from jft.weights.rules.transforms import of_one, same, vector_of_one


def _torchvision(model: ViT) -> Rules:
    yield from torch_layer("embed/patch", "conv_proj")
    yield Rule("params/embed/tokens/cls", ("class_token",), vector_of_one)
    yield Rule("params/embed/tokens/position", ("encoder.pos_embedding",), of_one)
    for i in range(model.depth):
        target, source = f"block{i + 1}", f"encoder.layers.encoder_layer_{i}"
        yield from torch_layer_norm(f"{target}/norm1", f"{source}.ln_1")
        # torch packs queries, keys and values as timm does, and calls them without a dot.
        attention = f"{source}.self_attention"
        for leaf, rule in zip(("weight", "bias"), torch_dense(f"{target}/attention/qkv", ""), strict=True):
            yield Rule(rule.target, (f"{attention}.in_proj_{leaf}",), rule.transform)
        yield from torch_dense(f"{target}/attention/proj", f"{attention}.out_proj")
        yield from torch_layer_norm(f"{target}/norm2", f"{source}.ln_2")
        yield from torch_dense(f"{target}/fc1", f"{source}.mlp.0")
        yield from torch_dense(f"{target}/fc2", f"{source}.mlp.3")
    yield from torch_layer_norm("norm/norm", "encoder.ln")
    yield from torch_dense("head/head", "heads.head")


def _torchvision_names(model: ViT, names: tuple[str, ...]) -> dict[str, str]:
    """The published files are older than torchvision's perceptron, and call its layers linear_1 and linear_2."""
    del model
    layers = {".mlp.linear_1.": ".mlp.0.", ".mlp.linear_2.": ".mlp.3."}
    return synonyms(names, {n: n.replace(old, new) for n in names for old, new in layers.items() if old in n})


def _timm(model: ViT, registers: str = "reg_token") -> Rules:
    yield from torch_layer("embed/patch", "patch_embed.proj")
    yield Rule("params/embed/tokens/cls", ("cls_token",), vector_of_one)
    yield Rule("params/embed/tokens/position", ("pos_embed",), of_one)
    if model.registers:
        yield Rule("params/embed/tokens/registers", (registers,), of_one)
    for i in range(model.depth):
        target, source = f"block{i + 1}", f"blocks.{i}"
        for branch in (1, 2):
            yield from torch_layer_norm(f"{target}/norm{branch}", f"{source}.norm{branch}")
            yield from torch_dense(f"{target}/fc{branch}", f"{source}.mlp.fc{branch}")
            if model.layer_scale is not None:
                yield Rule(f"params/{target}/scale{branch}/gamma", (f"{source}.ls{branch}.gamma",), same)
        for layer in ("qkv", "proj"):
            yield from torch_dense(f"{target}/attention/{layer}", f"{source}.attn.{layer}")
    yield from torch_layer_norm("norm/norm", "norm")
    yield from torch_dense("head/head", "head")


_RULES: dict[str, Callable[[ViT], Rules]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "dinov2": lambda model: _timm(model, "register_tokens"),
}

FAMILY = Family(ViT, _RULES, {"torchvision": _torchvision_names})
