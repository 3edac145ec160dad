"""Questions about a context whose answers are spans of it, in SQuAD's own nesting or as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.data.config import DataConfig
from compress.data.rows import Row, Rows, slices_of
from compress.data.table import Table
from compress.errors import InputError

_NAMES = {"text": "question", "text_pair": "context", "label": "answers"}


def is_squad(content: Any) -> bool:
    """Whether the content of a JSON file is SQuAD's: articles of paragraphs of questions."""
    articles = content.get("data") if isinstance(content, dict) else None
    return isinstance(articles, list) and all(isinstance(a, dict) and "paragraphs" in a for a in articles)


def squad_table(place: str, content: dict[str, Any]) -> Table:
    """Return columns `question`, `context` and `answers` of SQuAD 1.1 or 2.0 (Rajpurkar et al. 2016, 2018).

    Raises:
        InputError: a paragraph has no context or a question no answers.
    """
    rows = []
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                rows += [(qa["question"], paragraph["context"], qa["answers"]) for qa in paragraph["qas"]]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"not SQuAD's form: {error} is missing or of another kind",
            place=place,
            remedy="Each article has paragraphs, each of them a context and qas, each of these question and answers",
        ) from error
    columns = {
        name: [row[place] for row in rows] for place, name in enumerate(("question", "context", "answers"))
    }
    return Table(place, columns)


def shows_questions(table: Table, config: DataConfig) -> bool:
    """Whether a table has a question, a context, and answers with their places in it."""
    if not all((getattr(config, key) or name) in table.columns for key, name in _NAMES.items()):
        return False
    answers = table.column(config.label or "answers")
    return isinstance(next((value for value in answers if value), None), dict | list)


def read_questions(tables: Mapping[str, Table], config: DataConfig) -> Rows:
    """Read questions, contexts and answers.

    Answers are `{"text": […], "answer_start": […]}`, or a list of `{"text": …, "answer_start": …}`; none at all
    say that the context has no answer.

    Raises:
        InputError: a column is not there, or an answer does not stand where it should in its context.
    """
    names = {key: getattr(config, key) or name for key, name in _NAMES.items()}
    splits: dict[str, list[Row]] = {}
    for split, table in tables.items():
        columns = [table.column(names[key]) for key in ("text", "text_pair", "label")]
        splits[split] = [_row(table, number, *row) for number, row in enumerate(zip(*columns, strict=True))]
    rows = [row for part in splits.values() for row in part]
    without = sum(not row[2]["text"] for row in rows)
    notes = (
        f"question {names['text']!r}, context {names['text_pair']!r}, answers {names['label']!r}",
        f"{len(rows)} questions, {without} of them without an answer",
    )
    return Rows(splits, "questions", (), notes, slices_of(tables, config))


def _row(table: Table, number: int, question: Any, context: Any, answers: Any) -> Row:
    given = answers if answers is not None else []
    if isinstance(given, list) and all(isinstance(each, dict) for each in given):
        given = {key: [each.get(key) for each in given] for key in ("text", "answer_start")}
    texts, starts = (given.get(key) if isinstance(given, dict) else None for key in ("text", "answer_start"))
    wrong = None
    if (
        not isinstance(question, str)
        or not question.strip()
        or not isinstance(context, str)
        or not context.strip()
    ):
        wrong = "the question or the context is empty"
    elif not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        wrong = "answers are no lists of text and answer_start, equally long"
    elif not all(isinstance(t, str) and isinstance(s, int) for t, s in zip(texts, starts, strict=True)):
        wrong = "an answer is no text, or its answer_start no whole number"
    else:
        for text, start in zip(texts, starts, strict=True):
            if start < 0 or context[start : start + len(text)] != text:
                wrong = f"the answer {text!r:.40} does not stand at {start} in its context"
    if wrong is not None:
        raise InputError(
            f"{wrong} ({table.where([number])})",
            place=table.place,
            remedy="answer_start counts characters of the context from 0",
        )
    return question, context, {"text": texts, "answer_start": starts}
