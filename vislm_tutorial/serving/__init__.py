"""What leaves the notebook: saved files, a model card, ONNX, a service and its app."""
