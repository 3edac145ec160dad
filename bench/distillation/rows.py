"""The rows of the table: what a student learns from, each row one step beyond another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Teacher:
    """A packaged model fine-tuned on packaged data, and with which options."""

    model: str
    epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Setting:
    """A data set with its teachers and students.

    Attributes:
        data: packaged name.
        max_length: of teachers and students.
        teachers: by short name.
        students: by short name: where each begins, as `Distill.student` has it, and whose it is.
        unlabelled: more text of the kind, where there is any.
        strongest: the teacher that knows most.
        metric: what is compared.
    """

    data: str
    max_length: int
    teachers: dict[str, Teacher]
    students: dict[str, tuple[str, str]]
    unlabelled: tuple[str, ...] = ()
    strongest: str = "l6"
    metric: str = "accuracy"


L6 = Teacher("minilm-l6", 3, 1e-4)
SETTINGS = {
    "movie-reviews": Setting(
        "movie-reviews",
        64,
        {"l6": L6, "mpnet": Teacher("mpnet-base", 1, 3e-5)},
        {"3 layers": ("l6", "teacher:3"), "6 layers": ("mpnet", "minilm-l6")},
        ("movie-reviews/unlabelled",),
        "mpnet",
    ),
    "stsb": Setting(
        "stsb",
        64,
        {"l6": L6, "mpnet": Teacher("mpnet-base", 2, 3e-5)},
        {"3 layers": ("l6", "teacher:3"), "6 layers": ("mpnet", "minilm-l6")},
        strongest="mpnet",
        metric="spearman",
    ),
    "reuters-r8": Setting(
        "reuters-r8", 128, {"l6": Teacher("minilm-l6", 2, 5e-5)}, {"3 layers": ("l6", "teacher:3")}
    ),
    "brown-pos": Setting(
        "brown-pos", 64, {"l6": Teacher("minilm-l6", 2, 1e-4)}, {"3 layers": ("l6", "teacher:3")}
    ),
}


@dataclass(frozen=True)
class Row:
    """One way to train a student.

    Attributes:
        title: of the table's row.
        options: of `Distill`, besides those that all rows share.
        unlabelled: whether the setting's unlabelled text is read.
        ensemble: whether the setting's other teachers join.
        epochs: over all that is read.
        general: options of a distillation that comes first, on raw text beside the training split; the row's own
            then begins from its student, taught by the setting's strongest teacher.
    """

    title: str
    options: dict[str, Any] = field(default_factory=dict)
    unlabelled: bool = False
    ensemble: bool = False
    epochs: float = 3
    general: dict[str, Any] | None = None


RAW = "brown-pos"
HIDDEN = {"objective": "hidden", "layers": "uniform"}
RELATIONS = {"objective": "relations", "layers": "last"}
EMBEDDING = {"objective": "embedding"}

ROWS = {
    "labels": Row("labels alone", {"kd_weight": 0}),
    "labels-long": Row("labels alone, 10 epochs", {"kd_weight": 0}, epochs=10),
    "kd": Row("+ soft targets", {"kd_weight": 0.9}),
    "mse": Row("soft targets by squared error", {"kd_weight": 0.9, "logits": "mse"}),
    "hidden": Row("+ hidden states", {"kd_weight": 0.9, "match": [HIDDEN]}),
    "relations": Row("+ relations", {"kd_weight": 0.9, "match": [RELATIONS]}),
    "long": Row("+ hidden states, 10 epochs", {"kd_weight": 0.9, "match": [HIDDEN]}, epochs=10),
    "unlabelled": Row("+ unlabelled text", {"kd_weight": 0.9}, unlabelled=True),
    "hidden-unlabelled": Row(
        "+ hidden states and unlabelled text", {"kd_weight": 0.9, "match": [HIDDEN]}, unlabelled=True
    ),
    "ensemble": Row("+ second teacher", {"kd_weight": 0.9}, ensemble=True),
    "general": Row(
        "+ raw text with hidden states first, then the strongest teacher and unlabelled text",
        {"kd_weight": 0.9, "learning_rate": 2e-4},
        unlabelled=True,
        general={
            "student": "teacher:0,3,5",
            "match": [{"objective": "hidden", "layers": [[0, 0], [3, 1], [5, 2]]}],
            "unlabelled": RAW,
            "kd_weight": 0.9,
            "learning_rate": 3e-4,
            "epochs": 1,
        },
    ),
    "all": Row(
        "all together: second teacher, hidden states, unlabelled text",
        {"kd_weight": 0.9, "match": [HIDDEN], "learning_rate": 2e-4},
        unlabelled=True,
        ensemble=True,
    ),
}
