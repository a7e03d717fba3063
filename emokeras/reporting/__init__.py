"""What is shown: metrics, plots, tables on the screen.

metrics                                labels and probabilities to figures with intervals
plots, input_plots, search_plots       pictures of a run, of a network's input, of a search
screen, texts                          tables on the screen; numbers as text
"""
