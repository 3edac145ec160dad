"""Where a student comes from: layers of its teacher, or nothing but a size."""

import pytest
import torch
from tiny_models import logits, tiny_artifact, tiny_model

from compress.distillation.student import chosen_layers, layers_wanted, make_student
from compress.errors import InputError


def test_a_student_cut_from_its_teacher_keeps_evenly_spaced_layers_and_everything_else():
    teacher = tiny_artifact(tiny_model("bert", layers=4))
    student = make_student("teacher:2", teacher)
    assert student.model.config.num_hidden_layers == 2
    assert len(teacher.model.bert.encoder.layer) == 4, "the teacher stays whole"
    kept = [layer.output.dense.weight for layer in student.model.bert.encoder.layer]
    assert torch.equal(kept[0], teacher.model.bert.encoder.layer[1].output.dense.weight)
    assert torch.equal(kept[1], teacher.model.bert.encoder.layer[3].output.dense.weight)
    assert torch.equal(student.model.classifier.weight, teacher.model.classifier.weight)


def test_a_student_is_cut_from_the_layers_that_are_named():
    teacher = tiny_artifact(tiny_model("bert", layers=4))
    student = make_student("teacher:0,3", teacher)
    kept = [layer.output.dense.weight for layer in student.model.bert.encoder.layer]
    whole = [layer.output.dense.weight for layer in teacher.model.bert.encoder.layer]
    assert torch.equal(kept[0], whole[0])
    assert torch.equal(kept[1], whole[3])
    assert layers_wanted("teacher:2,") == (2,)


@pytest.mark.parametrize("text", ["teacher:0", "teacher:x", "teacher:", "teacher:-1", "teacher:1,,2"])
def test_a_student_that_is_no_number_of_layers_is_refused(text):
    with pytest.raises(InputError, match="Write `teacher:3`"):
        layers_wanted(text)


def test_a_new_student_has_the_teachers_family_and_its_own_sizes():
    teacher = tiny_artifact(tiny_model("bert"))
    student = make_student("new:hidden_size=16,num_hidden_layers=2,num_attention_heads=2", teacher)
    assert type(student.model) is type(teacher.model)
    assert student.model.classifier.weight.shape == (2, 16)
    assert len(student.model.bert.encoder.layer) == 2
    assert logits(student.model).shape == (4, 2)
    for wrong in (
        "new:hidden=16",
        "new:hidden_size",
        "new:hidden_size=0",
        "new:hidden_act=3",
        "new:pad_token_id=3",
        "new:is_decoder=1",
    ):
        with pytest.raises(InputError, match="is no size of a bert.*hidden_size"):
            make_student(wrong, teacher)
    with pytest.raises(InputError, match="no model has these sizes"):
        make_student("new:hidden_size=15", teacher)


@pytest.mark.parametrize("layers", [(0, 4), (2, 1), (1, 1)])
def test_layers_that_are_not_there_or_out_of_order_are_refused(layers):
    with pytest.raises(InputError, match="ascending numbers from 0 to 3"):
        chosen_layers(layers, 4)
