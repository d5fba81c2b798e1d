"""An ONNX writer: traces a function with JAX, translates its primitives, simplifies the graph, and names its nodes.

`trace` gives a jaxpr, `translate` walks it by the rules of `rules`, `simplify` turns idioms into ONNX's own operators
(softmax, LayerNorm, pools), sinks transpositions and folds BatchNorm into convolutions, and `model` makes the file.
"""
