"""What the Sweep screen shows and does: trials as its events tell them, the table, the slices, a trial's settings."""
