"""The training that `finetune` and `distill` share.

run.py          from a model, examples and an objective to the trained model; begin here
config.py       the options of every pass that trains
trainer.py      transformers' Trainer with our objective
objective.py    what is minimised; that of labels alone
examples.py     a training split with what an objective wants to know of it (tokenized.py: on disk)
sampling.py     the order of the examples, and how a step's batch is shared
adapters.py, parameters.py, dropout.py, adversarial.py, r_drop.py, tracking.py   an option each
"""
