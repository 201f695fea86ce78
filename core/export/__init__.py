"""Soft prompts in other people's formats."""
