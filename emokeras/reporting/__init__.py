"""Metrics, plots, and the tables that the commands print."""
