import importlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from rlaif.config.prompts import DecontaminateConfig, DedupConfig
from rlaif.errors import EngineMissing, RecordError
from rlaif.inputs.filters import Contamination, Duplicates
from rlaif.inputs.hashes import HashTable, words
from rlaif.records import REMOVED, Failure, Prompt
from tests.inputs.reading import failures, read, texts, write_jsonl

EXACT = DedupConfig()
LONG = "Explain to a child of seven how a rainbow comes about and why it is always round"


def near(**changes: Any) -> DedupConfig:
    return DedupConfig(method="near", **changes)


def against(*paths: Path, **changes: Any) -> DecontaminateConfig:
    return DecontaminateConfig(against=tuple(map(str, paths)), **changes)


def test_exact_duplicates_are_failures_that_name_the_earlier_prompt(tmp_path: Path):
    path = write_jsonl(
        tmp_path / "p.jsonl",
        {"id": "a", "prompt": "What is  it?"},
        {"id": "b", "prompt": "What is it? "},
        {"id": "a", "prompt": "What is it?"},
        {"id": "c", "prompt": "What is It?"},
    )
    items = read(path, id_column="id", dedup=EXACT)
    assert texts(items) == ["What is  it?", "What is It?"]
    removed = [one for one in items if isinstance(one, Failure)]
    assert [(one.stage, one.record_id, one.kind) for one in removed] == [
        (REMOVED, "b", "duplicate"),
        (REMOVED, "p.jsonl:3", "duplicate"),  # its id is taken already
    ]
    assert removed[0].message == "p.jsonl:2 repeats p.jsonl:1"


def test_the_same_words_in_another_role_are_not_a_duplicate(tmp_path: Path):
    one = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    other = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    path = write_jsonl(tmp_path / "p.jsonl", {"prompt": one}, {"prompt": other})
    assert len(texts(read(path, dedup=EXACT))) == 2


def test_near_duplicates_are_found_and_others_are_not(tmp_path: Path):
    pytest.importorskip("datasketch")
    path = write_jsonl(
        tmp_path / "p.jsonl",
        LONG,
        LONG.upper() + "!",
        LONG.replace("seven", "eight"),
        "Write a short poem about the sea in winter, please",
        "  ",
        LONG + " and what the ancients believed about it in times long gone by, if anything",
    )
    items = read(path, dedup=near())
    assert texts(items) == [LONG, texts(items)[1], texts(items)[2]]
    messages = [one.message for one in items if isinstance(one, Failure) and one.stage == REMOVED]
    assert messages[0] == "p.jsonl:2 is like p.jsonl:1: 1.00"
    assert messages[1].startswith("p.jsonl:3 is like p.jsonl:1: 0.")
    assert len(messages) == 2


def test_a_threshold_of_one_leaves_only_what_has_the_same_ngrams(tmp_path: Path):
    pytest.importorskip("datasketch")
    path = write_jsonl(tmp_path / "p.jsonl", LONG, LONG + "?", LONG.replace("seven", "eight"))
    assert len(texts(read(path, dedup=near(threshold=1.0)))) == 2


def jaccard(one: str, other: str, size: int) -> float:
    def grams(text: str) -> set[str]:
        plain = " ".join(words(text))
        return {plain[i : i + size] for i in range(max(1, len(plain) - size + 1))}

    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b)


def test_what_is_left_out_is_similar_and_what_stays_is_not_within_the_error_of_signatures():
    pytest.importorskip("datasketch")
    vocabulary = [f"word{n}" for n in range(60)]
    base = [" ".join(vocabulary[(k * 7 + n * n) % 60] for n in range(30)) for k in range(12)]
    variants = [
        " ".join(base[k].split()[:keep] + ["other"] * (30 - keep))
        for k in range(12)
        for keep in (30, 29, 28, 25, 20, 10)
    ]
    finder = Duplicates(near(permutations=256))
    kept: list[str] = []
    for number, text in enumerate([*base, *variants]):
        found = finder.find_or_add(Prompt.build(text), number)
        closest = max((jaccard(text, other, 5) for other in kept), default=0.0)
        # Four standard errors of a share estimated from 256 values.
        assert (closest > 0.7) if found else (closest < 0.9)
        if not found:
            kept.append(text)
    assert len(kept) < len(base) + len(variants)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a b", "a  b", "b", LONG, LONG + ".", "c d e"]), max_size=12))
def test_every_prompt_is_kept_or_repeats_an_earlier_kept_one(chosen: list[str]):
    pytest.importorskip("datasketch")
    for config in (EXACT, near()):
        finder, kept = Duplicates(config), set()
        for number, text in enumerate(chosen):
            found = finder.find_or_add(Prompt.build(text), number)
            if found is None:
                kept.add(number)
            else:
                assert found.place in kept
        again = Duplicates(config)
        assert kept == {
            number
            for number, text in enumerate(chosen)
            if again.find_or_add(Prompt.build(text), number) is None
        }


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10**12)), max_size=3000))
def test_a_table_of_hashes_finds_what_a_dict_finds(entries: list[tuple[int, int]]):
    table, expected = HashTable(), dict[int, list[int]]()
    for key, number in entries:
        table.add(key * 2**58, number)
        expected.setdefault(key, []).append(number)
    assert len(table) == len(entries)
    for key in range(42):
        assert table.find(key * 2**58) == expected.get(key, [])
    import numpy as np

    keys = np.array([k * 2**58 for k in expected], np.uint64)
    assert table.find_all(keys).tolist() == [n for numbers in expected.values() for n in numbers]


def test_without_datasketch_the_extra_is_named_before_the_first_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    path = write_jsonl(tmp_path / "p.jsonl", "one")
    with pytest.raises(EngineMissing, match=r"constitutional-rlaif\[inputs\]"):
        next(iter(read(path, dedup=near())))


def test_prompts_that_contain_half_of_a_test_item_are_contaminated(tmp_path: Path):
    item = "one two three four five six seven eight nine ten eleven twelve"  # five 8-grams
    tests = tmp_path / "tests" / "gsm.jsonl"
    write_jsonl(tests, {"question": "nothing like it at all in here, this is another question"})
    with tests.open("a") as file:
        file.write(f'{{"question": "{item}"}}\n')
    path = write_jsonl(
        tmp_path / "p.jsonl",
        "Solve: one two three four five six seven eight nine",  # 2 of 5
        "Solve: One, two, three, four, five, six, seven; eight nine TEN!",  # 3 of 5
        f"An example.\n{item}\nNow another.",
        "one two three four five six seven",
    )
    items = read(path, decontaminate=against(tests))
    assert [one[1] for one in failures(items)] == ["contaminated"] * 2
    messages = [one.message for one in items if isinstance(one, Failure)]
    assert messages == [
        f"p.jsonl:2 holds 60% of the test item {tests}:2",
        f"p.jsonl:3 holds 100% of the test item {tests}:2",
    ]
    assert len(texts(read(path, decontaminate=against(tests, threshold=0.7)))) == 3
    assert len(texts(read(path, decontaminate=against(tests, ngram=13)))) == 4


def test_a_test_item_shorter_than_the_ngram_is_found_as_a_whole_only(tmp_path: Path):
    tests = write_jsonl(tmp_path / "t.jsonl", {"q": "What is 2 + 2?"})
    path = write_jsonl(tmp_path / "p.jsonl", "what is 2 2", "Tell me: what is 2 + 2?")
    assert texts(read(path, decontaminate=against(tests))) == ["Tell me: what is 2 + 2?"]


def test_text_without_spaces_counts_by_the_character(tmp_path: Path):
    tests = write_jsonl(tmp_path / "t.jsonl", {"q": "彩虹是怎样形成的请解释一下"})
    path = write_jsonl(tmp_path / "p.jsonl", "请问：彩虹是怎样形成的，请解释", "海是蓝色的吗")
    assert texts(read(path, decontaminate=against(tests))) == ["海是蓝色的吗"]


def test_only_the_columns_named_count_and_a_set_without_them_is_refused(tmp_path: Path):
    answer = "alpha beta gamma delta epsilon zeta eta theta iota"
    tests = write_jsonl(tmp_path / "t.jsonl", {"q": {"text": "some question"}, "answer": answer})
    path = write_jsonl(tmp_path / "p.jsonl", answer, "other")
    assert texts(read(path, decontaminate=against(tests))) == ["other"]
    assert len(texts(read(path, decontaminate=against(tests, columns=("q.text",))))) == 2
    with pytest.raises(RecordError, match=r"t\.jsonl: no record has text in question"):
        Contamination(against(tests, columns=("question",)))


def test_a_contaminated_prompt_does_not_stand_for_its_duplicates(tmp_path: Path):
    tests = write_jsonl(tmp_path / "t.jsonl", {"q": "a b c d e f g h"})
    path = write_jsonl(tmp_path / "p.jsonl", "a b c d e f g h", "a b c d e f g h i", "x")
    items = read(path, dedup=EXACT, decontaminate=against(tests))
    assert [kind for _, kind in failures(items)] == ["contaminated"] * 2


@pytest.mark.parametrize("kind", ["none.jsonl", "empty.jsonl", "latin.jsonl"])
def test_an_evaluation_set_that_cannot_be_read_is_refused(tmp_path: Path, kind: str):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "latin.jsonl").write_bytes(b'{"q": "caf\xe9"}')
    path = write_jsonl(tmp_path / "p.jsonl", "one")
    with pytest.raises(RecordError, match=kind):
        read(path, decontaminate=against(tmp_path / kind))


def test_a_record_of_an_evaluation_set_that_cannot_be_read_is_refused(tmp_path: Path):
    path = write_jsonl(tmp_path / "p.jsonl", "one")
    (tmp_path / "test.csv").write_text("question\nWhat is it?\nFirst, this\n")
    config = DecontaminateConfig(against=(str(tmp_path / "test.csv"),))
    with pytest.raises(RecordError, match=r"test\.csv:3: 2 cells for 1 columns"):
        read(path, decontaminate=config)
