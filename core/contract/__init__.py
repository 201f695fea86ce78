"""What the engine and its front ends agree on: configuration, events, run folders, control. No torch here."""
