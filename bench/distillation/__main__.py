"""Train students in every way of the table, score them, write `bench/results/distillation.md`.

python -m bench.distillation                                  # all; a day on 2 cores, resumes where it was
python -m bench.distillation --data stsb --rows labels kd --seeds 0
python -m bench.distillation --finished                       # only write what is done
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.distillation.cells import Cell, cell, finished, teacher_cell
from bench.distillation.plot import draw
from bench.distillation.record import Found, measured, merged, read, write
from bench.distillation.report import table
from bench.distillation.rows import ROWS, SETTINGS
from bench.no_retraining.models import ROOT
from bench.writing import machine_line, write_result

INTRODUCTION = """\
# What each part of a distillation brings

`python -m bench.distillation`

Every student of a table sees the same examples in the same order of a seed: 3 epochs, batches of 32, learning rate
1e-4, no dropout, T = 2, 0.9 of the loss on the answer from the teacher, unless the row says otherwise; the second
training of “all together” and “with phrases and mixes” is at 2e-4. Students of three layers begin with the teacher's
1, 3, 5, those that read raw text first with 0, 3, 5; what such a row brings is what both bring. The best epoch on the
dev split counts. Differences are of means over seeds, intervals by a paired bootstrap over the test rows; against
labels alone trained on the same machine.

Raw text is the Brown corpus, for an epoch at 3e-4; more text, of the movie reviews, is what comes with them; on stsb
both are new pairs of the training texts (near-texts, 8 and 4 of each). Film reviews are the packaged film-reviews and
that further text, for two epochs at 2e-4. The strongest teacher of the movie reviews is mpnet-base, elsewhere the
student's own.
"""


def main() -> None:
    """Measure what is asked for and not in the working folder, and write it into the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="D")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    students = sorted({name for setting in SETTINGS.values() for name in setting.students})
    parser.add_argument("--students", nargs="+", choices=students, default=students, metavar="S")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--finished", action="store_true", help="train nothing, write what is done")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "distillation")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "distillation.md")
    options = parser.parse_args()
    work = options.work.absolute()
    found: Found = {}
    teachers: dict[tuple[str, str], Cell] = {}
    for data in options.data:
        for student, made in SETTINGS[data].students.items():
            if student not in options.students:
                continue
            for row in options.rows:
                if not ROWS[row].differs(SETTINGS[data]):
                    continue
                for seed in options.seeds:
                    if options.finished and not finished(data, student, row, seed, work):
                        continue
                    teacher = made.teacher
                    teachers[data, teacher] = teacher_cell(SETTINGS[data], teacher, work)[1]
                    one = cell(data, student, row, seed, work)
                    found.setdefault((data, teacher, student), {}).setdefault(row, []).append(one)
    kept = options.out.with_suffix(".json")
    records = merged(read(kept), measured(found, teachers, machine_line()))
    picture = options.out.with_suffix(".svg")
    draw(records, picture)
    shown = f"![what each row brings against labels alone, 95% intervals, grey where they hold zero]({picture.name})"
    write_result("\n".join([INTRODUCTION, shown, *table(records)]) + "\n", options.out)
    write(records, kept)


if __name__ == "__main__":
    main()
