"""Search for settings and ablations, run from the checkout: `python -m tuning.search --help`."""
