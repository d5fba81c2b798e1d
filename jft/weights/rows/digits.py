"""The weights of the quickstart."""

from jft.data.preprocess import Preprocess
from jft.weights.rows import row

# Trained by jft with configs/digits04.py and included in the package: the weights of the quickstart.
ROWS = [
    row.WeightSet(
        model="vgg_tiny",
        tag="digits04",
        dialect="jft",
        filename="vgg_tiny-digits04.safetensors",
        url=None,
        sha256="55faf18c0b01c30823877e6734f141fd713e1c66c8194bffce39fa968a2407ea",
        md5=None,
        size=0.4,
        license="Apache-2.0",
        num_params=93_669,
        top1=None,  # ImageNet accuracy does not apply
        top5=None,
        preprocess=Preprocess(size=32, resize=37),
        options={"num_classes": 5},
    ),
]
