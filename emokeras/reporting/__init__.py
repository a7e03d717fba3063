"""What is kept and shown: metrics, run folders, tables, pictures."""
