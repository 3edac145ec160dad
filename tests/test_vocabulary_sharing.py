"""Several pieces to one row: which rows stay, who reads them, and the module that does it."""

import re
from collections import Counter

import pytest
import torch
from test_vocabulary_pass import answers, artifact_of, context, language_model
from tiny_models import assert_reloads, logits, tiny_artifact, tiny_batch, tiny_model
from torch import nn
from transformers import AutoModelForMaskedLM

from compress.artifact import load, save
from compress.calibration.embeddings import embedding_sensitivity
from compress.errors import InputError
from compress.exporting import export_onnx
from compress.factorization.embedding import factorize_input_embedding
from compress.layers import Int8Embedding, LowRankEmbedding, SharedEmbedding
from compress.passes.factorize import Factorize
from compress.passes.quantize import Quantize
from compress.passes.vocabulary import Vocabulary
from compress.pruning.vocabulary.rows import keep_rows
from compress.pruning.vocabulary.sharing import (
    choose_rows,
    expected_counts,
    nearest_rows,
    row_space,
    share_rows,
)
from compress.structure import describe


def share(model, size):
    embedding = model.get_input_embeddings()
    expected = torch.arange(embedding.num_embeddings, 0, -1.0, dtype=torch.float64)
    return share_rows(model, expected, {0}, size, torch.eye(embedding.embedding_dim))


def test_unseen_pieces_together_are_expected_as_often_as_those_seen_once():
    expected = expected_counts(Counter({0: 6, 2: 1, 4: 1}), 6)
    # Two of eight tokens were seen once; so much goes from the seen to 1, 3 and 5 as 1/2 : 1/4 : 1/6.
    torch.testing.assert_close(expected[[0, 2, 4]], torch.tensor([4.5, 0.75, 0.75], dtype=torch.float64))
    unseen = 2 * torch.tensor([6, 3, 2], dtype=torch.float64) / 11
    torch.testing.assert_close(expected[[1, 3, 5]], unseen)
    assert float(expected.sum()) == pytest.approx(8)


@pytest.mark.parametrize("counts", [{}, {1: 3, 2: 2}])
def test_where_nothing_was_seen_once_nothing_new_is_expected(counts):
    expected = expected_counts(Counter(counts), 4)
    assert expected.tolist() == [counts.get(index, 0) for index in range(4)]


def test_directions_count_as_the_answer_follows_them():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    space = row_space(rows, torch.diag(torch.tensor([3e-40, 1e-40], dtype=torch.float64)))
    squared = torch.cdist(space, space).square()
    torch.testing.assert_close(squared[0, 1], torch.tensor(4 * 1.5))
    torch.testing.assert_close(squared[2, 3], torch.tensor(4 * 0.5))


def test_length_and_mean_do_not_count():
    rows = torch.tensor([[3.0, 1.0], [12.0, 1.0], [-15.0, 1.0], [0.0, 1.0]])
    space = row_space(rows, torch.eye(2))
    assert torch.equal(space[0], space[1])


def test_rare_pieces_without_a_like_stay_and_frequent_ones_with_a_twin_go():
    #                      special     frequent    its twin      rare, alone  rarer, near it
    space = torch.tensor([[9.0, 9.0], [1.0, 0.0], [1.01, 0.0], [-5.0, 0.0], [-5.0, 0.5]])
    expected = torch.tensor([0.0, 100.0, 90.0, 2.0, 1.0], dtype=torch.float64)
    kept = choose_rows(space, expected, {0}, 3)
    assert kept.tolist() == [0, 1, 3]
    assert kept[nearest_rows(space, kept)].tolist() == [0, 1, 1, 3, 3]


def test_choosing_in_parts_is_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    space = torch.randn(300, 8, generator=generator)
    expected = torch.rand(300, generator=generator, dtype=torch.float64)
    whole = choose_rows(space, expected, {7, 9}, 70)
    monkeypatch.setattr("compress.pruning.vocabulary.sharing._CHUNK", 32)
    assert torch.equal(choose_rows(space, expected, {7, 9}, 70), whole)
    assert {7, 9} <= set(whole.tolist())
    distances = torch.cdist(space, space[whole])
    assert torch.equal(nearest_rows(space, whole), distances.argmin(1))


@pytest.mark.parametrize("family", ["bert", "electra", "llama", "gpt2", "mpnet", "modernbert"])
def test_kept_ids_read_what_they_read_before_and_the_others_one_of_them(family, tmp_path):
    model = tiny_model(family)
    before = model.get_input_embeddings().weight.detach().clone()
    read_as = share(model, 12)
    table = model.get_input_embeddings()
    assert isinstance(table, SharedEmbedding)
    assert torch.equal(table(torch.arange(len(before))), before[read_as])
    kept = (read_as == torch.arange(len(before))).nonzero()[:, 0]
    assert len(kept) == table.table.num_embeddings == 12
    assert table.num_embeddings == len(before)
    assert_reloads(tiny_artifact(model), tmp_path / "model")


def test_the_row_of_padding_stays_one():
    table = nn.Embedding(6, 4, padding_idx=5)
    shared = SharedEmbedding.of(table, torch.tensor([1, 3, 5]), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert shared.padding_idx == shared.table.padding_idx == 2
    assert torch.equal(shared.weight[2], table.weight[5])
    without = SharedEmbedding.of(table, torch.tensor([1, 3]), torch.tensor([0, 0, 1, 1, 1, 1]))
    assert without.padding_idx is None


def test_gradients_reach_the_rows():
    model = tiny_model("bert")
    share(model, 12)
    model(**tiny_batch(), labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    assert model.get_input_embeddings().table.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("order", ["factorize first", "share first"])
def test_a_low_rank_embedding_is_shared_and_a_shared_one_factorized(order, tmp_path):
    model = tiny_model("bert")
    steps = [lambda: factorize_input_embedding(model, 9), lambda: share(model, 14)]
    for step in steps if order == "factorize first" else steps[::-1]:
        step()
    shared = next(part for part in model.modules() if isinstance(part, SharedEmbedding))
    assert any(isinstance(part, LowRankEmbedding) for part in model.modules())
    assert len(shared.row_of.unique()) == 14
    answers_before = logits(model)
    read_as = share(model, 14)  # nothing is left to drop
    assert torch.equal(logits(model), answers_before)
    assert len(read_as.unique()) == 14
    share(model, 10)
    assert len(shared.row_of.unique()) == 10
    with pytest.raises(InputError, match="the token embeddings are factorized already"):
        factorize_input_embedding(model, 4)
    assert_reloads(tiny_artifact(model), tmp_path / "model")
    artifact = Quantize().apply(tiny_artifact(model), context(tmp_path))
    assert any(isinstance(part, Int8Embedding) for part in artifact.model.modules())
    assert_reloads(artifact, tmp_path / "int8")


def test_ids_that_share_a_row_count_together_when_it_is_factorized():
    model = tiny_model("bert")
    read_as = share(model, 12)
    embedding = model.get_input_embeddings()
    used = embedding(torch.arange(4, 20)).detach().clone()
    weights = torch.zeros(len(read_as), dtype=torch.float64)
    weights[4:20] = 1
    rank = int(torch.linalg.matrix_rank(used))
    factorize_input_embedding(model, min(rank, 11), weights)
    assert torch.allclose(embedding(torch.arange(4, 20)), used, atol=1e-3) is (rank <= 11)


def test_a_low_rank_embedding_loses_rows_by_splitting_too(tmp_path):
    model = tiny_model("bert")
    factorize_input_embedding(model, 9)
    kept = [0, 2, 3, 4, 7, 8, 9, 12, 19]
    before = model.get_input_embeddings()(torch.tensor(kept)).detach()
    keep_rows(model, kept)
    assert torch.equal(model.get_input_embeddings()(torch.arange(9)), before)
    assert model.config.vocab_size == model.get_input_embeddings().num_embeddings == 9
    artifact = tiny_artifact(model)
    save(artifact, tmp_path / "model")
    assert torch.equal(load(tmp_path / "model").model.get_input_embeddings()(torch.arange(9)), before)


def test_shared_rows_cannot_leave_the_tokenizer():
    model = tiny_model("bert")
    share(model, 12)
    with pytest.raises(InputError, match=r"shared by several ids\. Give rare: share"):
        keep_rows(model, [0, 1, 2])


def test_the_sensitivity_predicts_what_a_small_change_does():
    model = tiny_model("bert").double()
    batch = tiny_batch() | {"attention_mask": torch.ones_like(tiny_batch()["input_ids"])}
    sensitivity = embedding_sensitivity(model, [batch])
    generator = torch.Generator().manual_seed(0)
    embedding, before, total, draws = model.get_input_embeddings(), logits(model, batch), 0.0, 300
    for _ in range(draws):
        change = 1e-5 * torch.randn(*batch["input_ids"].shape, 32, generator=generator, dtype=torch.float64)
        handle = embedding.register_forward_hook(lambda *call, change=change: call[2] + change)
        moved = logits(model, batch) - before
        handle.remove()
        total += float((moved - moved.mean(1, keepdim=True)).square().sum())
    tokens = batch["input_ids"].numel()
    trace = float(sensitivity.trace()) / 2  # the other half is the damping
    assert total / draws == pytest.approx(1e-10 * tokens * trace, rel=0.15)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "gpt2"])
def test_text_of_kept_rows_is_answered_bit_for_bit_and_the_tokenizer_is_the_same(family, tmp_path):
    artifact, running = artifact_of(family, tmp_path), context(tmp_path)
    before, vocab = answers(artifact.model, artifact.tokenizer), artifact.tokenizer.get_vocab()
    rows = artifact.model.config.vocab_size
    result = Vocabulary().apply(artifact, running)
    table = result.model.get_input_embeddings()
    assert isinstance(table, SharedEmbedding)
    assert table.table.num_embeddings < rows == result.model.config.vocab_size
    assert result.tokenizer.get_vocab() == vocab
    seen = re.match(r"training text: (\d+) of 12 texts keep all rows", running.notes[1])
    after = answers(result.model, result.tokenizer)
    assert int(seen[1]) == sum(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert re.match(r"held-out text: \d+\.\d\d% of its tokens read another piece's row", running.notes[2])
    assert re.search(r"e\.g\. '.+' as '.+'", running.notes[2])
    save(result, tmp_path / "model")
    assert torch.equal(answers(load(tmp_path / "model").model, result.tokenizer), after)


def test_words_to_keep_have_rows_of_their_own(tmp_path):
    artifact = artifact_of("bert", tmp_path)
    (tmp_path / "words.txt").write_text("novel\n")
    ids = artifact.tokenizer("novel", add_special_tokens=False).input_ids
    before = artifact.model.get_input_embeddings()(torch.tensor(ids)).detach()
    step = Vocabulary(keep=tmp_path / "words.txt", max_size=30)
    result = step.apply(artifact, context(tmp_path, ["the cast was dull."] * 3))
    table = result.model.get_input_embeddings()
    assert torch.equal(table(torch.tensor(ids)), before)
    assert table.table.num_embeddings <= 30


def test_it_goes_through_the_chain_to_onnx(tmp_path):
    artifact, running, notes = artifact_of("bert", tmp_path), context(tmp_path), []
    for step in (Vocabulary(), Factorize(keep=0.6, method="plain", embeddings=0.5), Quantize()):
        artifact = step.apply(artifact, running)
    assert export_onnx(artifact, tmp_path, notes).name == "model_quantized.onnx"
    assert any(note.startswith("parity with torch") for note in notes)


def test_a_language_models_tied_table_is_split_by_default_and_not_shared(tmp_path):
    artifact = artifact_of("bert", tmp_path)
    artifact = artifact.evolve(model=AutoModelForMaskedLM.from_config(artifact.model.config).eval())
    with pytest.raises(InputError, match=r"the table is tied: .*decoder read the same weight"):
        Vocabulary(rare="share").apply(artifact, context(tmp_path))
    rows = artifact.model.config.vocab_size
    result = Vocabulary().apply(artifact, context(tmp_path))
    assert result.model.config.vocab_size == len(result.tokenizer) < rows


def test_a_head_of_its_own_keeps_its_rows_only_where_that_is_asked_for():
    from transformers import AutoModelForCausalLM

    model = language_model(AutoModelForCausalLM, "llama", tie_word_embeddings=False, num_key_value_heads=2)
    share_rows(model, torch.ones(20, dtype=torch.float64), {5, 7, 9}, 8, torch.eye(16))
    assert isinstance(model.get_input_embeddings(), SharedEmbedding)
    assert model.get_output_embeddings().weight.shape == (20, 16)
    assert type(model.get_output_embeddings()) is nn.Linear
    assert [entry["type"] for entry in describe(model).values()] == ["SharedEmbedding"]
