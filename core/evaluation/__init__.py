"""Executing completions against their tests, in isolation, and scoring what came of it. No torch here."""
