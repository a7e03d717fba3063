"""Where a person searches for settings; run from the checkout: `python -m tuning.search --help`."""
