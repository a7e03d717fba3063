"""Train one configuration, or many: resolve, fit, score, write the run folder.

run            one run from its configuration to its metrics; member: one of an ensemble's in a child process
resolve        complete a configuration before training
subsets        clips, waveforms, labels and tokens of each subset
fit            stages of one training; callbacks, checkpoints, optimizer, tensorboard, pictures belong to it
warm_start     weights of earlier runs
score          logits, probabilities and metrics of a subset
outcome        the files of a finished run
ensemble       several runs to one ensemble
jobs           many trainings in child processes, for a benchmark
"""
