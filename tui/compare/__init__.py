"""What the Compare and Tokens screens show: two checkpoints, problem by problem, setting by setting, curve by curve."""
