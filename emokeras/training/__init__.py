"""How it learns: one run, its callbacks, its score."""
