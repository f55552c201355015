"""Networks over aligned crops: models with an input contract, weights by name, ONNX export."""
