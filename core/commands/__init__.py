"""The headless commands: parsed options in, exit status out. `core.cli` has the parser."""
