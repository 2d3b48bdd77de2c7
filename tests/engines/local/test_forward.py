from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlaif.engines.local import rows as rows_module
from rlaif.engines.local.forward import Forward, common_prefix
from rlaif.engines.local.rows import FixedRows, JoinableRows, new_rows
from tests.engines.local.brute import Brute

SEQUENCES = [[5, 9, 200, 31], list(range(40, 70)), [7] * 11, [301]]


@pytest.fixture
def brute(tiny_models: Callable[[str], Path], kind: str) -> Brute:
    return Brute(tiny_models(kind))


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one.log_softmax(-1), other, atol=1e-5)


@torch.inference_mode()
def test_left_padding_changes_no_logits(brute: Brute):
    _, logits = Forward(brute.model).prefill(SEQUENCES)
    for row, sequence in enumerate(SEQUENCES):
        assert close(logits[row], brute.logprobs(sequence)[-1])


@torch.inference_mode()
def test_decoding_on_from_padded_prompts_changes_no_logits(brute: Brute):
    forward = Forward(brute.model)
    rows = new_rows(forward.config)
    cache, _ = forward.prefill(SEQUENCES)
    picks = (0, 1, 2, 3, 1)
    rows.add(cache, picks, [len(SEQUENCES[row]) for row in picks], width=30)
    written = [list(SEQUENCES[row]) for row in picks]
    for step in range(20):
        if step == 6:  # rows leave, and those that stay may change places
            order = rows.drop([0, 2, 4])
            written = [written[row] for row in order]
        tokens = [10 + step + row for row in range(len(written))]
        logits = forward.step(rows, tokens)
        for row, token in enumerate(tokens):
            written[row].append(token)
            assert close(logits[row], brute.logprobs(written[row])[-1])


@torch.inference_mode()
def test_rows_join_behind_rows_that_are_under_way(tiny_models: Callable[[str], Path]):
    brute = Brute(tiny_models("llama"))
    forward = Forward(brute.model)
    rows = JoinableRows(forward.config)
    written: list[list[int]] = []
    for sequences in ([SEQUENCES[0]], [SEQUENCES[1], SEQUENCES[3]], [SEQUENCES[2]]):
        cache, _ = forward.prefill(sequences)
        lengths = [len(sequence) for sequence in sequences]
        rows.add(cache, range(len(sequences)), lengths, width=max(lengths))
        written += [list(sequence) for sequence in sequences]
        for step in range(3):
            logits = forward.step(rows, [20 + step] * len(written))
            for row, sequence in enumerate(written):
                sequence.append(20 + step)
                assert close(logits[row], brute.logprobs(sequence)[-1])
    assert rows.width == max(map(len, written))


@torch.inference_mode()
def test_rows_outgrow_their_buffer(tiny_models: Callable[[str], Path], monkeypatch):
    monkeypatch.setattr(rows_module, "_ROOM", 4)
    test_rows_join_behind_rows_that_are_under_way(tiny_models)


@torch.inference_mode()
def test_reading_gives_the_logits_at_the_places_asked_for(brute: Brute):
    shared = list(range(100, 120))
    sequences = [[*shared, *sequence] for sequence in SEQUENCES]
    asked = [
        range(len(sequence) - 1 - at % 2, len(sequence)) for at, sequence in enumerate(sequences)
    ]
    logits = Forward(brute.model).read(sequences, asked)
    expected = torch.cat(
        [brute.logprobs(s)[list(places)] for s, places in zip(sequences, asked, strict=True)]
    )
    assert close(logits, expected)


@torch.inference_mode()
def test_what_the_last_pass_read_is_not_read_again(brute: Brute, monkeypatch):
    forward, read = Forward(brute.model), list[int]()
    original = Forward._call

    def counted(self, ids, *arguments, **keywords):
        read.append(ids.numel())
        return original(self, ids, *arguments, **keywords)

    monkeypatch.setattr(Forward, "_call", counted)
    shared, conversation = list(range(100, 130)), list(range(200, 220))
    batches = [
        [[*shared, *conversation, 5, 9], [*shared, *conversation, 7, 7]],
        [[*shared, *conversation, 8, 9, 5]],  # all of it is known
        [[*shared, 301, 302], [*shared, 303, 304]],  # the start of it is
        [[301], [302, 303]],  # nothing is, and it stays
        [[*shared, 5, 6], [*shared, 5, 7]],
    ]
    for batch in batches:
        logits = forward.read(batch, [[len(sequence) - 1] for sequence in batch])
        for row, sequence in enumerate(batch):
            assert close(logits[row], brute.logprobs(sequence)[-1])
    if forward.joinable:
        assert read == [50, 4, 3, 4, 4, 4]


@torch.inference_mode()
def test_prompts_are_read_on_from_what_is_kept(tiny_models: Callable[[str], Path]):
    brute = Brute(tiny_models("llama"))
    forward = Forward(brute.model)
    shared = list(range(100, 130))
    forward.read([[*shared, 3]], [[30]])
    cache, logits = forward.prefill([[*shared, 5, 9], [*shared, 7]])
    assert list(forward.kept) == shared
    assert cache.layers[0].keys.shape[0] == 2
    for row, sequence in enumerate([[*shared, 5, 9], [*shared, 7]]):
        assert close(logits[row], brute.logprobs(sequence)[-1])


def test_only_models_that_attend_to_everything_may_shift_rows(brute: Brute, kind: str):
    expected = JoinableRows if kind in ("llama", "learned-positions") else FixedRows
    assert type(new_rows(brute.model.config)) is expected


def test_fixed_rows_refuse_company(tiny_models: Callable[[str], Path]):
    forward = Forward(Brute(tiny_models("sliding")).model)
    rows = FixedRows(forward.config)
    with torch.inference_mode():
        cache, _ = forward.prefill([[1, 2]])
    rows.add(cache, [0], [2], width=2)
    with pytest.raises(ValueError, match="together"):
        rows.add(cache, [0], [2], width=2)


def test_the_common_prefix_ends_at_the_first_difference():
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 4]) == 2
    assert common_prefix([], [1]) == 0
