from hypothesis import given, strategies as st

from rlaif.records import Prompt, Response, content_id, content_seed, content_uniform


def test_ids_do_not_depend_on_the_order_of_keys():
    assert content_id("x", {"a": 1, "b": 2}) == content_id("x", {"b": 2, "a": 1})


def test_moving_a_letter_between_parts_changes_the_id():
    assert content_id("x", "a", "bc") != content_id("x", "ab", "c")


def test_the_kind_is_part_of_the_id():
    assert content_id("prompt", "a") != content_id("response", "a")


@given(st.integers(0, 2**31), st.text())
def test_seeds_fit_in_31_bits_and_uniforms_are_strictly_inside(seed: int, part: str):
    assert 0 <= content_seed(seed, part) < 2**31
    assert 0.0 < content_uniform(seed, part) < 1.0


def test_uniforms_are_spread_evenly():
    draws = [content_uniform(1, i) for i in range(20_000)]
    assert abs(sum(draws) / len(draws) - 0.5) < 0.01
    assert abs(sum(u < 0.1 for u in draws) / len(draws) - 0.1) < 0.01


def test_a_prompt_without_an_id_gets_one_from_its_content_alone():
    first = Prompt.build("Hi there", tags=("a",), source="x:1")
    second = Prompt.build([{"role": "user", "content": "Hi there"}], source="y:9")
    assert first.id == second.id != Prompt.build("Hi  there").id


def test_equal_texts_at_different_places_of_a_group_are_different_responses():
    ids = {Response.build("p", "same", index=i).id for i in range(3)}
    assert len(ids) == 3
