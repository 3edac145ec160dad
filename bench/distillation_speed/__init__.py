"""How long distillation takes: this toolkit, a plain loop and TextBrewer, interleaved, on the same rows and student.

`python -m bench.distillation_speed` prints the table and writes it to `bench/results/distillation_speed.md` and
`.json`.
"""
