"""The rows of the table: what a student learns from, each row one step beyond another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Teacher:
    """A packaged model fine-tuned on packaged data, and with which options."""

    model: str
    epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Student:
    """A student of a table.

    Attributes:
        teacher: short name of the setting's teacher that it learns from and is compared with.
        start: where it begins, as `Distill.student` has it.
        raw_start: where it begins when it learns from raw text first.
        raw_layers: which of the teacher's hidden states its own are matched with on raw text.
    """

    teacher: str
    start: str
    raw_start: str
    raw_layers: list[tuple[int, int]]


@dataclass(frozen=True)
class Setting:
    """A data set with its teachers and students.

    Attributes:
        data: packaged name.
        max_length: of teachers and students.
        teachers: by short name.
        students: by short name.
        raw: options of `Distill` that bring much text of any kind.
        kindred: options of `Distill` that bring much text of the data's own kind, where a packaged set has it.
        more: options of `Distill` that bring more text of the data's own kind, where there is any.
        mixes: options of `Distill` that bring phrases of the training texts and mixes of them; none for pairs, which
            have new partners instead, and for words, whose sentences have to stay whole.
        strongest: the teacher that knows most.
        metric: what is compared.
    """

    data: str
    max_length: int
    teachers: dict[str, Teacher]
    students: dict[str, Student]
    raw: dict[str, Any]
    kindred: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    mixes: dict[str, Any] = field(default_factory=dict)
    strongest: str = "l6"
    metric: str = "accuracy"


def near_pairs(copies: int) -> dict[str, Any]:
    """Return the options that make new pairs of the training texts, so many of each pair."""
    return {"augment": [{"method": "near-texts", "copies": copies}]}


L6 = Teacher("minilm-l6", 3, 1e-4)
THREE = Student("l6", "teacher:3", "teacher:0,3,5", [(0, 0), (3, 1), (5, 2)])
SIX = Student("mpnet", "minilm-l6", "minilm-l6", [(11, 5)])
BROWN = {"unlabelled": "brown-pos"}
SETTINGS = {
    "movie-reviews": Setting(
        "movie-reviews",
        64,
        {"l6": L6, "mpnet": Teacher("mpnet-base", 1, 3e-5)},
        {"3 layers": THREE, "6 layers": SIX},
        BROWN,
        {"unlabelled": ["movie-reviews/unlabelled", "film-reviews"], "learning_rate": 2e-4, "epochs": 2},
        {"unlabelled": "movie-reviews/unlabelled"},
        {"augment": [{"method": "span-crop", "copies": 2}, {"method": "span-mix", "copies": 2}]},
        "mpnet",
    ),
    "stsb": Setting(
        "stsb",
        64,
        {"l6": L6, "mpnet": Teacher("mpnet-base", 2, 3e-5)},
        {"3 layers": THREE, "6 layers": SIX},
        near_pairs(8),
        more=near_pairs(4),
        metric="spearman",
    ),
    "reuters-r8": Setting(
        "reuters-r8", 128, {"l6": Teacher("minilm-l6", 2, 5e-5)}, {"3 layers": THREE}, BROWN
    ),
    "brown-pos": Setting("brown-pos", 64, {"l6": Teacher("minilm-l6", 2, 1e-4)}, {"3 layers": THREE}, BROWN),
}


@dataclass(frozen=True)
class Row:
    """One way to train a student.

    Attributes:
        title: of the table's row; what stands before a colon is its name in short.
        options: of `Distill`, other than those that all rows share.
        more: whether the setting's further text is read.
        ensemble: whether the setting's other teachers join.
        strongest: whether the setting's strongest teacher takes over after the raw text.
        epochs: over all that is read.
        mixes: whether the setting's phrases and mixes are read.
        raw: whether raw text comes first, with the student's own teacher and its hidden states: an epoch of any kind,
            or what the setting has of the data's own.
    """

    title: str
    options: dict[str, Any] = field(default_factory=dict)
    more: bool = False
    ensemble: bool = False
    strongest: bool = False
    epochs: float = 3
    raw: Literal["any", "kindred"] | None = None
    mixes: bool = False

    @property
    def name(self) -> str:
        """Return the title in short."""
        return self.title.partition(":")[0]

    def differs(self, setting: Setting) -> bool:
        """Say whether a setting has what the row adds; numbers are compared by squared error in any case."""
        wants = [
            (self.mixes, setting.mixes),
            (self.raw == "kindred", setting.kindred),
            (self.more and not self.raw, setting.more),
            ("augment_anew" in self.options, "augment" in setting.more),
            (self.ensemble, len(setting.teachers) > 1),
            (self.options.get("logits") == "mse", setting.metric != "spearman"),
        ]
        return all(bool(has) for wanted, has in wants if wanted)


HIDDEN = {"objective": "hidden", "layers": "uniform"}
RELATIONS = {"objective": "relations", "layers": "last"}
RAW = {"learning_rate": 3e-4, "epochs": 1}

ROWS = {
    "labels": Row("labels alone", {"kd_weight": 0}),
    "labels-long": Row("labels alone, 10 epochs", {"kd_weight": 0}, epochs=10),
    "kd": Row("+ soft targets", {}),
    "kd-half": Row("soft targets for half of the loss", {"kd_weight": 0.5}),
    "mse": Row("soft targets by squared error", {"logits": "mse"}),
    "hidden": Row("+ hidden states", {"match": [HIDDEN]}),
    "relations": Row("+ relations", {"match": [RELATIONS]}),
    "long": Row("+ hidden states, 10 epochs", {"match": [HIDDEN]}, epochs=10),
    "unlabelled": Row("+ more text", {}, more=True),
    "anew": Row("+ more text, anew in every epoch", {"augment_anew": True}, more=True),
    "ensemble": Row("+ second teacher", {}, ensemble=True),
    "raw": Row("+ raw text with hidden states first", {}, raw="any"),
    "all": Row(
        "all together: raw text with hidden states first, then the strongest teacher and more text",
        {"learning_rate": 2e-4},
        more=True,
        strongest=True,
        raw="any",
    ),
    "mixes": Row(
        "with phrases and mixes: all of that, two of each for every review, and the last hidden states",
        {"learning_rate": 2e-4, "match": [{"objective": "hidden", "layers": "last"}]},
        more=True,
        strongest=True,
        raw="any",
        mixes=True,
    ),
    "kindred": Row(
        "by way of film reviews: the same with them for raw text, the second training over one epoch at 1e-4",
        {"match": [{"objective": "hidden", "layers": "last"}]},
        more=True,
        strongest=True,
        raw="kindred",
        epochs=1,
        mixes=True,
    ),
}
