from hypothesis import given, strategies as st

from rlaif.training.forward.sequences import lay_out, split_by_tokens

tokens = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=5))
def test_every_action_is_predicted_from_the_token_before_it(rows):
    prompts, responses = [list(column) for column in zip(*rows, strict=True)]
    batch = lay_out(prompts, responses, pad_id=0)
    places = list(zip(batch.rows_N.tolist(), batch.columns_N.tolist(), strict=True))
    following = [batch.input_ids_BL[row, column + 1].item() for row, column in places]
    assert following == batch.actions_N.tolist() == [t for r in responses for t in r]
    before = [batch.input_ids_BL[row, column].item() for row, column in places]
    assert before == [t for p, r in zip(prompts, responses, strict=True) for t in [p[-1], *r[:-1]]]
    assert batch.input_ids_BL.shape[1] == max(len(p) + len(r) for p, r in rows)


def test_actions_come_from_lengths_even_when_padding_looks_like_tokens():
    batch = lay_out([[1], [1, 1, 1]], [[1, 1], [1]], pad_id=1)
    assert batch.input_ids_BL.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]]
    assert batch.rows_N.tolist() == [0, 0, 1]
    assert batch.columns_N.tolist() == [0, 1, 2]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_groups_hold_everything_once_and_never_pad_beyond_the_limit(lengths, most: int):
    groups = split_by_tokens(lengths, most)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= most
