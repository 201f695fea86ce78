"""What the Problems screen shows and does: verdicts, programs, differences, and scratch copies."""
