"""Networks over aligned crops: the model that owns its input contract, weights by name, ONNX export and runtime."""
