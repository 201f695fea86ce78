"""Learning a soft prompt: the loop, its loss and its schedule."""
