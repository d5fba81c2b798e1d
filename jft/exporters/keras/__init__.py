"""A run as a Keras model, and LiteRT files for phones made of it: the graph of the ONNX writer, in Keras' layers."""
