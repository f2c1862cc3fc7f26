"""A trained model to take elsewhere: as programs for torch and ONNX, and as a folder for the Hub."""
