"""The rows of the catalog, a file for each family. To add a weight set, add a row to its family's `ROWS`."""

from jft.weights.rows import (
    alexnet,
    convnext,
    densenet,
    digits,
    efficientnet,
    efficientnet_v2,
    googlenet,
    inception,
    mobilenet,
    regnet,
    resnet,
    robust,
    squeezenet,
    vgg,
    vit,
)

# One in each line, in the order of the catalog.
FAMILIES = (
    alexnet,
    vgg,
    googlenet,
    inception,
    resnet,
    robust,
    densenet,
    regnet,
    squeezenet,
    efficientnet,
    efficientnet_v2,
    mobilenet,
    convnext,
    vit,
    digits,
)
