"""Other people's pages of curves: TensorBoard, Trackio and W&B, each through its own package."""
