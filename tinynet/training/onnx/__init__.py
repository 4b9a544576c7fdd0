"""ONNX: a file with the graph and the weights of a model, which other programs run."""
