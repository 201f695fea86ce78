"""What the Train screen shows: curves and plots, figures, the machine, and diagnoses in words."""
