"""From the rows under results/ to RESULTS.md and results/<protocol>.md.

rows          read a row and check its figures against its predictions
tables        the runs of one recipe to its row in a table
fusion_gain   the gain of each fusion over its branches
selection     what chose the recipes, and how often each test subset was read
published     the figures of others for the same splits
overview      RESULTS.md
generalization  other corpora and conditions: their rows, results/generalization.md
pages         the command: results/<protocol>.md and RESULTS.md
"""
