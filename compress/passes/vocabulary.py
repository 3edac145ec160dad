"""Keep the embedding rows that the user's text is made of."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from compress.errors import InputError
from compress.passes.base import Context, ModelPlan, Pass
from compress.passes.recovery import check_recovery, recover

if TYPE_CHECKING:
    import datasets
    from tokenizers import Tokenizer
    from torch import nn
    from transformers import PreTrainedModel

    from compress.artifact import Artifact
    from compress.data import TextData
    from compress.pruning.vocabulary.backend import State

_SAMPLES = 256  # training examples that say which directions of an embedding matter
_SHOWN = 5  # examples of pieces and what they are read as


class Vocabulary(Pass):
    """Keep embedding rows for the word pieces that the training text needs, and drop the others.

    `share`: the tokenizer stays, and a piece without a row of its own reads the row that does nearly the same to
    the model's answer. Rows are kept by how often new text will need them and how far the next best is (see
    `compress.pruning.vocabulary.sharing`). Nothing becomes unknown, nothing gets longer.

    `split`: such pieces leave the tokenizer too, with their output rows, and words fall into smaller pieces, as in
    TextPruner (Yang et al. 2022): the folder is a standard checkpoint, as language models with tied tables need
    it. Special tokens, single characters and bytes never go. About as large a share of new text are pieces never
    seen as of the training text are pieces seen once (Good-Turing), so with `min_count: 2` both fall apart alike,
    and a `finetune` or `distill` after it teaches the model to read such words.

    Text whose pieces all stay is answered bit for bit as before. Notes say what share of held-out text is not.

    Example:
        - {pass: vocabulary}
        - {pass: vocabulary, max_size: 10000, keep: words.txt}
        - {pass: vocabulary, rare: split, min_count: 2, recover: 1}
    """

    name: ClassVar[str] = "vocabulary"
    pass_: Literal["vocabulary"] = Field("vocabulary", alias="pass")
    rare: Literal["share", "split"] | None = Field(
        None,
        description="how pieces without a row are read: by the nearest row or in smaller pieces; "
        "left out: share, or split where a language model's head reads the table",
    )
    min_count: PositiveInt = Field(
        1, description="as many rows stay as pieces are seen at least this often in the training text"
    )
    max_size: PositiveInt | None = Field(None, description="rows to keep at most")
    keep: Path | None = Field(None, description="a file of words or texts, one a line, whose pieces all stay")

    recover: PositiveFloat | None = Field(
        None, description="epochs of training on the labels and on the answers of the model as it came in"
    )

    def input_files(self) -> tuple[Path, ...]:
        """Return the file of words to keep."""
        return () if self.keep is None else (self.keep,)

    def check(self, plan: ModelPlan) -> None:
        """Refuse a wrong order, missing data, a model without a vocabulary and a file that cannot be read."""
        if plan.quantized or plan.exported:
            done = "an exported" if plan.exported else "a quantized"
            plan.refuse(
                f"the vocabulary of {done} model cannot be pruned",
                "Put vocabulary before quantize and export.",
            )
        if plan.data is None:
            plan.refuse("the pieces to keep are those of the training text", "Give data.")
        if plan.config is not None and getattr(plan.config, "vocab_size", None) is None:
            plan.refuse(
                f"the config of {plan.config.model_type} has no vocab_size", "Drop this pass for this model."
            )
        check_recovery(self.recover, plan)
        try:
            self._texts_to_keep()
        except InputError as error:
            plan.refuse(f"{error.place}: {error.cause}", error.remedy)

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the artifact with fewer rows; notes say what went and what that does to held-out text.

        Raises:
            InputError: the tokenizer is not a fast one or does not fit the model or the text, `max_size` is
                less than what must stay, or rows are to be shared of a table that has other readers.
            CompressError: transformers would build or cut differently than it should; nothing was saved.
        """
        from compress.architectures.embeddings import innermost_table
        from compress.pruning.vocabulary import backend, proof, rows

        assert context.data is not None  # check() refused it otherwise
        model, tokenizer, data = artifact.model, artifact.tokenizer, context.data
        state, old = backend.state_of(tokenizer), backend.plain_backend(tokenizer)
        before, bytes_before = innermost_table(model).num_embeddings, _bytes(model)
        _check_fits(state, rows.ids_of(model))
        counts = proof.count_pieces(old, _texts(data.train))
        unknown = backend.unknown_id(state)
        if counts.total() == 0 or (unknown is not None and 2 * counts[unknown] > counts.total()):
            raise InputError(
                "most of the training text is unknown to the tokenizer",
                place=f"data {data.name}",
                remedy="Give text of the language that the model was trained on.",
            )
        always = backend.named_ids(state) | rows.named_in_configs(model)
        always.update(proof.count_pieces(old, self._texts_to_keep()))
        if self._shares(model):
            facts = self._share(artifact, context, old, counts, always)
        else:
            artifact, facts = self._split(artifact, data, state, old, counts, always)
        after, saved = innermost_table(model).num_embeddings, bytes_before - _bytes(model)
        context.notes.append(
            f"rows: {before:,} to {after:,}, {100 * (1 - after / before):.1f}% less; {saved / 1e6:.1f} MB "
            f"of {bytes_before / 1e6:.1f} MB of weights saved"
        )
        context.notes.extend(facts)
        return artifact if self.recover is None else recover(artifact, context, self.recover)

    def _shares(self, model: PreTrainedModel) -> bool:
        from compress.architectures.embeddings import token_table

        if self.rare is None:
            try:
                token_table(model)
            except InputError:
                return False
            return model.get_output_embeddings() is None
        return self.rare == "share"

    def _share(
        self,
        artifact: Artifact,
        context: Context,
        old: Tokenizer,
        counts: Counter[int],
        always: set[int],
    ) -> list[str]:
        """Let rare pieces read others' rows, in place; return notes."""
        from compress.calibration.embeddings import embedding_sensitivity
        from compress.calibration.examples import calibration
        from compress.pruning.vocabulary import proof, rows, sharing

        assert context.data is not None
        model, data = artifact.model.to(context.device), context.data  # type: ignore[arg-type]
        examples = calibration(artifact, data, _SAMPLES, context.seed, context.device)
        size = len(always | {index for index, count in counts.items() if count >= self.min_count})
        size = min(size, self.max_size or size)
        expected = sharing.expected_counts(counts, rows.ids_of(model))
        sensitivity = embedding_sensitivity(model, examples.inputs)
        read_as = sharing.share_rows(model, expected, always, size, sensitivity)
        train = _texts(data.train)
        foreign = {index for index, row in enumerate(read_as.tolist()) if index != row}
        same = sum(foreign.isdisjoint(ids) for ids in proof.encoded(old, train))
        held_out = proof.count_pieces(old, _texts(data.validation) + _texts(data.test))
        moved = Counter({index: count for index, count in held_out.items() if index in foreign})
        examples_of = ", ".join(
            f"{old.id_to_token(index)!r} as {old.id_to_token(int(read_as[index]))!r}"
            for index, _ in moved.most_common(_SHOWN)
        )
        return [
            f"training text: {same:,} of {len(train):,} texts keep all rows",
            f"held-out text: {100 * moved.total() / max(1, held_out.total()):.2f}% of its tokens read another "
            f"piece's row; the tokenizer is the same" + (f", e.g. {examples_of}" if moved else ""),
        ]

    def _split(
        self,
        artifact: Artifact,
        data: TextData,
        state: State,
        old: Tokenizer,
        counts: Counter[int],
        always: set[int],
    ) -> tuple[Artifact, list[str]]:
        """Take rare pieces out of tables and tokenizer, the model in place; return the artifact and notes."""
        from compress.pruning.vocabulary import backend, pieces, proof, rows

        model, tokenizer = artifact.model, artifact.tokenizer
        always = always | pieces.floor(state)
        if rows.counts_positions_from_pad(model):
            always.update(range(model.config.pad_token_id + 1))
        kept = pieces.choose(counts, always, state, self.min_count, self.max_size)
        new_id = {index: row for row, index in enumerate(kept)}
        rows.keep_rows(model, kept)
        tokenizer = backend.rebuilt(tokenizer, backend.with_ids(state, new_id), model.config)
        new, train = backend.plain_backend(tokenizer), _texts(data.train)
        same = proof.check_unchanged(old, new, new_id, train)
        held_out = _texts(data.validation) + _texts(data.test)
        change = proof.change(old, new, new_id, backend.unknown_id(state), held_out)
        tokens = max(1, change.tokens)
        return artifact.evolve(tokenizer=tokenizer), [
            f"training text: {same:,} of {len(train):,} texts keep all pieces, checked one by one",
            f"held-out text: {100 * change.gone / tokens:.2f}% of its tokens have no piece any more; "
            f"{100 * change.unknown / tokens:.3f}% fall to unknown, sequences get "
            f"{100 * (change.new_tokens - change.tokens) / tokens:.2f}% longer",
        ]

    def _texts_to_keep(self) -> list[str]:
        """Return the lines of `keep`, each also as it stands after a space, which byte-level BPE tells apart."""
        if self.keep is None:
            return []
        try:
            lines = self.keep.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InputError(
                f"cannot be read ({cause})",
                place=f"keep: {self.keep}",
                remedy="Give a text file with one word or text a line.",
            ) from error
        return [text for line in lines if line.strip() for text in (line, f" {line}")]


def _texts(split: datasets.Dataset) -> list[str]:
    columns = [name for name in ("text", "text_pair") if name in split.column_names]
    return [text for name in columns for text in split[name]]


def _check_fits(state: State, rows: int) -> None:
    from compress.pruning.vocabulary.backend import piece_ids

    piece, index = max(piece_ids(state).items(), key=lambda item: item[1])
    if index >= rows:
        raise InputError(
            f"the tokenizer has ids up to {index} ({piece!r}), the embedding only {rows} rows",
            place="tokenizer",
            remedy="Give the model with the tokenizer that it was trained with.",
        )


def _bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
