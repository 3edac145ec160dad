"""Distillation: teachers, students, and what the one learns from the other.

run.py          from teachers, a student and data to a trained student; begin here
student.py      where a student comes from: a name, layers of its teacher, a size
transfer.py     the text: the labelled split, and what only the teacher knows the answer to

teachers.py     several as one, beforehand or at every step
teacher.py      one model: what it says and shows, kept in the cache (store.py)
answers.py      a file of answers, human ratings
ensemble.py     the mean of what several say
readers.py      what teachers read that answer at every step
signals.py      what is read inside a model while it runs
alignment.py    which of a teacher's tokens stands for a student's (counterparts.py)

matching.py     what a student is to match, and how much (schedule.py, layer_map.py)
objective.py    the whole loss: soft targets (soft.py), labels, what is matched inside (inside.py)
objectives/     one file an objective: its options, its formula
"""
