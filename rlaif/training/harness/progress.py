"""What a person sees while a policy trains: one live line, samples, and how long it will take.

On a terminal a Rich bar on stderr; elsewhere a plain line every half minute; with ``json`` one
object per event on stdout and nothing else there. Model-written text is escaped before it is shown.
"""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import orjson
import torch
from transformers import GenerationConfig

from rlaif.runs.text import one_line, safe_json, safe_text
from rlaif.training.data.chat import has_tools, render_chat
from rlaif.training.data.messages import turns_of
from rlaif.training.scorers import Scorer, collect_scores

Style = Literal["terminal", "plain", "json", "quiet"]

_PLAIN_EVERY = 30.0
"""Seconds between plain lines: a log file should stay readable after a night."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply of the policy while it trains."""

    prompt: str
    """The last user message."""

    response: str

    score: float | None = None
    """By a scorer, where one is asked; None also where it gave none."""


def progress_style(*, json: bool = False, quiet: bool = False) -> Style:
    """Choose how progress is shown from where stderr goes."""
    if quiet:
        return "quiet"
    if json:
        return "json"
    return "terminal" if sys.stderr.isatty() else "plain"


class TrainingProgress:
    """Shows the progress of one training. A context manager; safe to update before entering."""

    def __init__(self, total: int, *, done: int = 0, style: Style = "quiet") -> None:
        """Prepare the display.

        Args:
            total: Optimiser steps of the whole training.
            done: Steps finished before this process started (a resume).
            style: See `progress_style`.
        """
        self._total = total
        self._done = self._start = done
        self._style = style
        self._began = self._spoke = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        self._began = self._spoke = time.monotonic()
        if self._style == "terminal":
            self._bar = _make_bar()
            self._task = self._bar.add_task(
                "steps", total=self._total, completed=self._done, detail=""
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Show that a step is finished and what was measured."""
        self._done = step
        if self._style == "json":
            _print_json({"event": "step", "step": step, "total": self._total, **values})
        elif self._bar is not None:
            self._bar.update(self._task, completed=step, detail=_brief(values))
        elif self._style == "plain" and time.monotonic() - self._spoke >= _PLAIN_EVERY:
            self._spoke = time.monotonic()
            left = f", about {_duration(self.seconds_left())} left"
            self.say(f"step {step}/{self._total}: {_brief(values)}{left}")

    def seconds_left(self) -> float:
        """Estimate from the pace since this process started; infinite before the first step."""
        made = self._done - self._start
        if made <= 0:
            return float("inf")
        return (time.monotonic() - self._began) / made * (self._total - self._done)

    def say(self, text: str) -> None:
        """Show a line."""
        text = safe_text(text)
        if self._style == "json":
            _print_json({"event": "note", "text": text})
        elif self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self._style != "quiet":
            print(text, file=sys.stderr)  # noqa: T201 - the plain form of the display

    def show_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Show replies of the policy, shortened to a line each."""
        if self._style == "json":
            _print_json(
                {"event": "samples", "step": step, "samples": [_as_json(s) for s in samples]}
            )
            return
        for sample in samples:
            prompt, response = one_line(sample.prompt, 60), one_line(sample.response, 160)
            score = "" if sample.score is None else f" ({sample.score:.3g})"
            self.say(f"[{step}]{score} {prompt} → {response}")


def _make_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=Console(stderr=True),
    )


def _brief(values: Mapping[str, float]) -> str:
    """The first four values: trainers put what matters first."""
    return " · ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:4])


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "an unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min"


def _print_json(event: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(safe_json(orjson.dumps(event)) + b"\n")
    sys.stdout.flush()


FILE = "samples.jsonl"


def sample_prompts(rows: Iterable[Mapping[str, Any]], count: int) -> list[Any]:
    """Return the first ``count`` different prompts without tools, as strings or message lists."""
    prompts: list[Any] = []
    for row in rows:
        tools = row.get("tools") or has_tools(turns_of(row["prompt"], "user"))
        if row["prompt"] not in prompts and not tools:
            prompts.append(row["prompt"])
        if len(prompts) == count:
            break
    return prompts


def sample_replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    *,
    max_tokens: int,
    scorer: Scorer | None = None,
) -> list[Sample]:
    """Answer each prompt greedily, and score the replies; the model's mode is put back."""
    training = model.training
    model.eval()
    try:
        replies = [_reply(model, tokenizer, prompt, max_tokens) for prompt in prompts]
    finally:
        model.train(training)
    if scorer is None:
        return replies
    turns = [turns_of(prompt, "user") for prompt in prompts]
    columns: dict[str, list[Any]] = {"prompt_id": [""] * len(turns), "tags": [[]] * len(turns)}
    scores = collect_scores(scorer, turns, [reply.response for reply in replies], columns)
    return [replace(reply, score=score) for reply, score in zip(replies, scores, strict=True)]


def mean_score(samples: Sequence[Sample]) -> float | None:
    """Return the mean of the scores there are; None without any."""
    scores = [sample.score for sample in samples if sample.score is not None]
    return sum(scores) / len(scores) if scores else None


def _as_json(sample: Sample) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": sample.prompt, "response": sample.response}
    return row if sample.score is None else {**row, "score": sample.score}


def keep_samples(out: Path, step: int, samples: Sequence[Sample]) -> None:
    """Append samples to ``samples.jsonl``."""
    with (out / FILE).open("ab") as file:
        for sample in samples:
            file.write(orjson.dumps({"step": step, **_as_json(sample)}) + b"\n")


@torch.no_grad()
def _reply(model: Any, tokenizer: Any, prompt: Any, max_tokens: int) -> Sample:
    turns = turns_of(prompt, "user")
    text = render_chat(tokenizer, turns, opened=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    ids = ids.to(model.device)
    own_settings = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:  # greedy and nothing else, whatever penalties the checkpoint asks for
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=own_settings.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=True,
        )
    finally:
        model.generation_config = own_settings
    reply = tokenizer.decode(made[0, ids.size(1) :], skip_special_tokens=True)
    return Sample(turns[-1]["content"], str(reply))
