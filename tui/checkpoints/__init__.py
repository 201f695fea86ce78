"""What the Checkpoints screen shows and does: the catalogue of every run's checkpoints, its table, its dialogs."""
