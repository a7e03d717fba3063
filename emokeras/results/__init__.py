"""What is claimed: rows under results/ to RESULTS.md and results/<protocol>.md."""
