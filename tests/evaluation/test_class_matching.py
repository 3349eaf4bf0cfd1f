"""Test the matching of a dataset's classes to a model's by name."""

import pytest

from hf_videomae.evaluation import ClassMismatchError, match_classes

KINETICS = {0: "abseiling", 1: "air drumming", 2: "answering questions", 3: "baking cookies"}


def test_names_match_in_any_order_and_spelling() -> None:
    assert match_classes(["Baking_Cookies", "air-drumming", "abseiling"], KINETICS) == [3, 1, 0]
    assert match_classes(["+", "-"], {0: "-", 1: "+"}) == [1, 0]


@pytest.mark.parametrize(
    ("names", "id2label", "words"),
    [
        (["abseiling", "air drumning"], KINETICS, "nearest to 'air drumning' is 'air drumming'"),
        (["kick", "punch"], KINETICS, "2 of the 2 classes of the dataset are unknown"),
        (["a", "b"], {0: "LABEL_0", 1: "LABEL_1"}, "--match_labels index"),
        (["a b", "a_b"], {0: "a b", 1: "c"}, "the dataset has .*: 'a b', 'a_b'"),
        (["a"], {0: "a b", 1: "A-B"}, "the model has .*: 'a b', 'A-B'"),
    ],
)
def test_mismatches_are_named(names: list[str], id2label: dict[int, str], words: str) -> None:
    with pytest.raises(ClassMismatchError, match=words):
        match_classes(names, id2label)


def test_matching_by_index_needs_equal_counts() -> None:
    assert match_classes(["x", "y"], {0: "LABEL_0", 1: "LABEL_1"}, matching="index") == [0, 1]
    with pytest.raises(ClassMismatchError, match="has 1 classes and the model 4"):
        match_classes(["x"], KINETICS, matching="index")
