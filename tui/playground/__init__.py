"""What the Playground screen shows and does: a prompt, and two completions of it as they grow."""
