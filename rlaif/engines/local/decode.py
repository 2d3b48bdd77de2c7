"""Decoding: rows that share forward passes, join while others are under way, and leave when done.

What a row says depends on its prompt, seed and sampling alone: its t-th token is drawn with the
uniform number that belongs to (seed, t), whichever rows it shares passes with and however often it
was put off and read again. Company moves logits only by floating-point noise.
"""

from collections.abc import Iterator, Sequence

import torch

from rlaif.engines.local.calls import GeneratedSequence, out_of_memory
from rlaif.engines.local.chat import Chat
from rlaif.engines.local.draw import draw_tokens
from rlaif.engines.local.forward import Forward
from rlaif.engines.local.queue import Limits
from rlaif.engines.local.rows import new_rows
from rlaif.engines.protocol import Reply, Usage, Written
from rlaif.engines.turns import split_reasoning
from rlaif.records import content_uniform

_STEPS_BETWEEN_JOINS = 8  # each joining copies caches; this keeps it a small part of the work
_PART_IDLE = 4  # rows that cannot move in memory leave when one in so many is idle


class Decoder:
    """The rows one worker is decoding."""

    def __init__(self, forward: Forward, chat: Chat, ends: frozenset[int], limits: Limits) -> None:
        self.written = Written(0, 0)
        self._forward = forward
        self._chat = chat
        self._ends = ends
        self._limits = limits
        self._active: list[GeneratedSequence] = []
        self._waiting: list[GeneratedSequence] = []
        self._rows = new_rows(forward.config)
        self._steps = 0
        self._tried: list[
            GeneratedSequence
        ] = []  # in the last forward pass, and in memory during it

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._active or self._waiting)

    @property
    def room(self) -> int:
        """How many more rows could start with the next step."""
        if not self._may_join():
            return 0
        return max(0, self._limits.rows - len(self._active) - len(self._waiting))

    def take(self, rows: Sequence[GeneratedSequence]) -> None:
        """Accept rows; they start as soon as there is room."""
        self._waiting += rows

    def step(self) -> None:
        """Start waiting rows if it is time, then write one token per row.

        Raises:
            torch.OutOfMemoryError: Memory ran out; call `shrink` and step again.
        """
        self._leave()
        if self._may_join():
            self._join()
        if self._active:
            self._tried = self._active
            logits_BV = self._forward.step(self._rows, [row.tokens[-1] for row in self._active])
            self._draw(self._active, logits_BV)
            self._steps += 1
            self._leave()

    def shrink(self) -> None:
        """After memory ran out: half as many rows from now on; all are read again.

        One row that does not fit alone has failed.
        """
        tried = self._tried
        if len(tried) == 1:
            tried[0].call.fail(out_of_memory())
        else:
            self._limits.halve(len(tried))
        self._waiting = self.give_up()

    def give_up(self) -> list[GeneratedSequence]:
        """Return all rows that are not finished, and hold none."""
        held = [row for row in (*self._active, *self._waiting) if not row.idle]
        self._active, self._waiting = [], []
        self._rows = new_rows(self._forward.config)
        return held

    def _may_join(self) -> bool:
        if not self._active:
            return True
        return self._rows.joinable and self._steps >= _STEPS_BETWEEN_JOINS

    def _join(self) -> None:
        """Read prompts and add them to the rows. A row stays waiting until that has worked."""
        self._steps = 0
        self._waiting = [row for row in self._waiting if not row.idle]
        for rows in self._batches(self._fitting()):
            self._start(rows)
            started = {id(row) for row in rows}
            self._waiting = [row for row in self._waiting if id(row) not in started]
            if self._active and not self._rows.joinable:
                break  # the others start when these are done

    def _fitting(self) -> list[GeneratedSequence]:
        """The rows at the head of the queue that fit beside those under way; at least one."""
        widest = max((row.most for row in self._active), default=0)
        fitting: list[GeneratedSequence] = []
        for row in self._waiting:
            widest = max(widest, row.most)
            count = len(self._active) + len(fitting) + 1
            if count > 1 and (count > self._limits.rows or count * widest > self._limits.tokens):
                break
            fitting.append(row)
        return fitting

    def _batches(self, rows: Sequence[GeneratedSequence]) -> Iterator[list[GeneratedSequence]]:
        """Rows that are read in one pass: of similar length, and one reading for equal prompts."""
        groups: dict[tuple[int, ...], list[GeneratedSequence]] = {}
        for row in rows:
            groups.setdefault(row.ids, []).append(row)
        batch: list[tuple[int, ...]] = []
        for ids in sorted(groups, key=len):
            if batch and len(ids) * (len(batch) + 1) > self._limits.prefill_tokens:
                yield [row for one in batch for row in groups[one]]
                batch = []
            batch.append(ids)
        if batch:
            yield [row for one in batch for row in groups[one]]

    def _start(self, rows: list[GeneratedSequence]) -> None:
        prompts = list(dict.fromkeys(row.ids for row in rows))
        index = {ids: place for place, ids in enumerate(prompts)}
        picks = [index[row.ids] for row in rows]
        self._tried = [*self._active, *rows]
        cache, logits_PV = self._forward.prefill(prompts)
        self._draw(rows, logits_PV[torch.tensor(picks, device=logits_PV.device)])
        going = [place for place, row in enumerate(rows) if not row.idle]
        if going:
            sources = [picks[place] for place in going]
            lengths = [len(prompts[source]) for source in sources]
            self._rows.add(cache, sources, lengths, width=max(map(len, prompts)))
            self._active += [rows[place] for place in going]

    def _draw(self, rows: Sequence[GeneratedSequence], logits_BV: torch.Tensor) -> None:
        tokens = draw_tokens(
            logits_BV,
            temperatures=[row.sampling.temperature for row in rows],
            top_ps=[row.sampling.top_p for row in rows],
            uniforms=[content_uniform(row.seed, "token", len(row.tokens)) for row in rows],
        )
        for row, token in zip(rows, tokens, strict=True):
            if not row.idle:
                self._write(row, token)

    def _write(self, row: GeneratedSequence, token: int) -> None:
        if token in self._ends:
            return self._finish(row, self._text(row), "stop")
        row.tokens.append(token)
        self.written += Written(0, 1)
        if row.sampling.stop:
            cut = self._cut_at_stop(row)
            if cut is not None:
                return self._finish(row, cut, "stop")
        if len(row.tokens) >= row.limit:
            return self._finish(row, self._text(row), "length")
        return None

    def _cut_at_stop(self, row: GeneratedSequence) -> str | None:
        """The reply up to the first stop string, once one is complete."""
        stops = row.sampling.stop
        # A token is a byte at least, so a stop string that has just ended is within these.
        recent = row.tokens[-(max(len(stop.encode()) for stop in stops) + 2) :]
        if not any(stop in self._chat.text(recent) for stop in stops):
            return None
        text = self._text(row)
        places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
        return text[: min(places)] if places else None

    def _text(self, row: GeneratedSequence) -> str:
        return self._chat.text(row.tokens, after=row.prompt if row.continues else ())

    def _finish(self, row: GeneratedSequence, text: str, finish: str) -> None:
        row.finished = True
        usage = Usage(prompt_tokens=len(row.prompt), completion_tokens=len(row.tokens))
        # What continues a stub is the reply itself, however it begins.
        text, reasoning = (text, "") if row.continues else split_reasoning(text)
        reply = Reply(text, finish=finish, usage=usage, reasoning=reasoning)
        self.written += Written(len(row.places), 0)
        row.call.answer(row.places, reply)

    def _leave(self) -> None:
        kept = [place for place, row in enumerate(self._active) if not row.idle]
        leaving = len(self._active) - len(kept)
        few = leaving < len(self._active) / _PART_IDLE and not self._rows.joinable
        if not leaving or (kept and few):
            return
        if kept:
            self._active = [self._active[place] for place in self._rows.drop(kept)]
        else:
            self._active, self._rows = [], new_rows(self._forward.config)
