"""The frozen language model, the soft prompt before it, and the files that hold soft prompts."""
