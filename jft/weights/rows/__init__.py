"""The rows of the catalog, a file for each family. To add a weight set, add a row to its family's `ROWS`."""

from jft.weights.rows import alexnet, efficientnet, googlenet, inception, resnet, squeezenet, vgg

FAMILIES = (alexnet, vgg, googlenet, inception, resnet, squeezenet, efficientnet)
