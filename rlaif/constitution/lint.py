"""Lint: what in a constitution will make judges disagree or data worse, where, and how to fix it.

For a file that does not load, its errors are returned. One that loads is checked as a whole, after
``extends``; each finding names the file and line that its words come from.

Severities: an *error* is certain to be wrong; a *warning* is probably worth a change; an *info*
names something that some methods could use.
"""

import difflib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from pathlib import Path

from rlaif.constitution import wording
from rlaif.constitution.file_format import Finding, Severity, Spot
from rlaif.constitution.load import in_file_order, read_constitution
from rlaif.constitution.models import Constitution, Principle
from rlaif.constitution.rules import explain_rule

ALIKE = 0.75
"""Statements at least this alike are reported as near-duplicates."""

_FEWEST_FOR_BALANCE = 4
_LEAST_SHARE = 0.2
_REQUESTS = {
    "critique_request": "critics see only the statement: say what to point out",
    "revision_request": "critics see only the statement: say how to rewrite",
    "comparison": "judges see only the statement: ask 'Which response ...?'",
}


_SEVERITIES: dict[str, Severity] = {
    "example-tie": "error",
    "example-breaks-rule": "error",
    "missing-opposite": "info",
    "missing-examples": "info",
    "unused-tag": "info",
}
"""Of findings that are not warnings."""


def lint_constitution(
    source: str | Path, *, prompt_tags: Collection[str] | None = None
) -> tuple[Finding, ...]:
    """Return all findings, in the order of the file.

    Args:
        source: A file, or the name of a shipped constitution.
        prompt_tags: The tags that prompts carry; when given, ``applies_to`` is checked against
            them (default: unknown, not checked).
    """
    loaded = read_constitution(source)
    if loaded.constitution is None:
        return loaded.problems
    linter = _Linter(loaded.spots, loaded.root)
    findings = [
        *(finding for p in loaded.constitution.principles for finding in linter.principle(p)),
        *linter.repeats(loaded.constitution),
        *linter.balance(loaded.constitution),
        *linter.tags(loaded.constitution),
        *linter.reach(loaded.constitution, prompt_tags),
    ]
    return in_file_order(sorted(findings, key=lambda f: f.code), loaded.root)


class _Linter:
    """The checks, with the file position of every field."""

    def __init__(self, spots: Mapping[str, Mapping[str, Spot]], root: Spot) -> None:
        self._spots = spots
        self._root = root

    def principle(self, principle: Principle) -> Iterator[Finding]:
        """Check one principle on its own."""
        yield from self._statement(principle)
        yield from self._polarity(principle)
        yield from self._requests(principle)
        yield from self._examples(principle)
        yield from self._patterns(principle)
        if principle.weight == 0:
            message = "weight is 0, so the principle is never drawn"
            fix = "set a weight above 0, or remove the principle"
            yield self._say(principle, "weight", "zero-weight", message, fix)

    def repeats(self, constitution: Constitution) -> Iterator[Finding]:
        """Find statements that say the same thing twice."""
        for first, later in combinations(constitution.principles, 2):
            alike = wording.likeness(first.statement, later.statement)
            where = self._at(first, "statement").finding("info", "", "").where
            if alike == 1:
                code, message = "duplicate-statement", f"the same words as {first.id!r} at {where}"
                yield self._say(later, "statement", code, message, "remove one of them")
            elif alike >= ALIKE:
                code, message = "near-duplicate", f"nearly the same as {first.id!r} at {where}"
                fix = "remove one of them, or say how they differ"
                yield self._say(later, "statement", code, message, fix)

    def balance(self, constitution: Constitution) -> Iterator[Finding]:
        """Check that judged principles do not nearly all encourage, or nearly all forbid."""
        judged = constitution.judged()
        if len(judged) < _FEWEST_FOR_BALANCE:
            return
        avoid = sum(principle.polarity == "avoid" for principle in judged)
        few = min(avoid, len(judged) - avoid)
        if few / len(judged) < _LEAST_SHARE:
            rare = "avoid" if avoid == few else "encourage"
            yield self._root.within("principles").finding(
                "warning",
                "polarity-imbalance",
                f"only {few} of {len(judged)} judged principles have polarity {rare}",
                "prohibitions alone teach refusal, wishes alone are easily ignored: mix both",
            )

    def tags(self, constitution: Constitution) -> Iterator[Finding]:
        """Find tags that look misspelt, or that group nothing where others do."""
        for name in ("tags", "applies_to"):
            used = Counter(tag for p in constitution.principles for tag in getattr(p, name))
            for principle in constitution.principles:
                for index in range(len(getattr(principle, name))):
                    yield from self._tag(principle, name, index, used)

    def reach(
        self, constitution: Constitution, prompt_tags: Collection[str] | None
    ) -> Iterator[Finding]:
        """Check ``applies_to`` against the tags of the prompts."""
        if prompt_tags is None:
            return
        for principle in constitution.principles:
            for index, tag in enumerate(principle.applies_to):
                if tag not in prompt_tags:
                    place, message = f"applies_to.{index}", f"no prompt has the tag {tag!r}"
                    fix = f"prompts have: {', '.join(sorted(prompt_tags)) or 'no tags'}"
                    yield self._say(principle, place, "unmatched-applies-to", message, fix)
        active = [principle for principle in constitution.principles if principle.weight > 0]
        mentioned = {tag for principle in active for tag in principle.applies_to}
        for tag in sorted(set(prompt_tags) - mentioned):
            if any(principle.applies((tag,)) for principle in active):
                severity: Severity = "info"
                message = f"no applies_to names the prompt tag {tag!r}"
                fix = "fine unless some principles are meant for these prompts"
            else:
                severity = "warning"
                message = f"no principle applies to prompts tagged only {tag!r}"
                fix = "add the tag to an applies_to, or leave applies_to out of a principle"
            spot = self._root.within("principles")
            yield spot.finding(severity, "unused-prompt-tag", message, fix)

    def _statement(self, principle: Principle) -> Iterator[Finding]:
        statement = principle.statement
        if words := wording.vague_words(statement):
            message = f"{', '.join(map(repr, words))} can mean anything"
            fix = "say what a reader would see in the response"
            yield self._say(principle, "statement", "vague", message, fix)
        if len(statement.split()) < wording.FEWEST_WORDS:
            message = f"{statement!r} leaves its meaning to the reader"
            fix = "say who does what, and in which case"
            yield self._say(principle, "statement", "too-short", message, fix)
        if joined := wording.joined_demands(statement):
            message = f"two demands in one statement ({joined!r})"
            fix = "split it into two principles"
            yield self._say(principle, "statement", "double-barrelled", message, fix)

    def _polarity(self, principle: Principle) -> Iterator[Finding]:
        expected = "avoid" if wording.forbids(principle.statement) else "encourage"
        if principle.kind == "judged" and principle.polarity != expected:
            how = "forbids" if expected == "avoid" else "asks for something"
            message = f"the statement {how}, but polarity is {principle.polarity}"
            fix = f"write {expected}, or reword"
            yield self._say(principle, "polarity", "polarity-mismatch", message, fix)

    def _requests(self, principle: Principle) -> Iterator[Finding]:
        if principle.kind == "rule":
            return
        for name, fix in _REQUESTS.items():
            if not getattr(principle, name):
                code = f"missing-{name.replace('_', '-')}"
                yield self._say(principle, name, code, f"{name} is missing", fix)
        if principle.comparison and not principle.comparison.endswith("?"):
            code, message = "comparison-not-a-question", "it does not end with a question mark"
            yield self._say(principle, "comparison", code, message, "ask 'Which response ...?'")
        if words := wording.reversed_question(principle.comparison, principle.statement):
            message = f"it seems to ask for the worse response ({words!r}), which flips every label"
            fix = "ask which response keeps better to the statement"
            yield self._say(principle, "comparison", "reversed-comparison", message, fix)
        if not principle.opposite:
            code, message = "missing-opposite", "opposite is missing"
            fix = "contrastive methods need the statement reversed"
            yield self._say(principle, "opposite", code, message, fix)

    def _examples(self, principle: Principle) -> Iterator[Finding]:
        if not principle.examples:
            code, message = "missing-examples", "examples are missing"
            fix = "one prompt with a better and a worse response tests what you mean"
            yield self._say(principle, "examples", code, message, fix)
        for index, example in enumerate(principle.examples):
            place, code, fix = f"examples.{index}", "example-breaks-rule", "fix the example"
            if example.better == example.worse:
                message = "better and worse are the same text"
                yield self._say(principle, place, "example-tie", message, "change one of them")
            elif principle.rule is not None:
                if failed := explain_rule(principle.rule, example.better):
                    message = f"better does not satisfy the rule ({'; '.join(failed)})"
                    yield self._say(principle, f"{place}.better", code, message, fix)
                if not explain_rule(principle.rule, example.worse):
                    message = "worse satisfies the rule, too"
                    yield self._say(principle, f"{place}.worse", code, message, fix)

    def _patterns(self, principle: Principle) -> Iterator[Finding]:
        for name in ("must_match", "must_not_match"):
            pattern = getattr(principle.rule, name, None)
            if pattern is not None and wording.repeats_a_repetition(pattern):
                message = "nested repetition: matching can take exponential time"
                fix = "limit one of the repetitions, such as {1,50} in place of +"
                yield self._say(principle, f"rule.{name}", "slow-pattern", message, fix)

    def _tag(
        self, principle: Principle, name: str, index: int, used: Counter[str]
    ) -> Iterator[Finding]:
        tag, place = getattr(principle, name)[index], f"{name}.{index}"
        if used[tag] > 1:
            return
        commoner = [other for other in used if used[other] > 1]
        if close := difflib.get_close_matches(tag, commoner, n=1, cutoff=0.8):
            message, fix = f"{tag!r} looks like {close[0]!r}", f"write {close[0]!r}"
            yield self._say(principle, place, "misspelt-tag", message, fix)
        elif name == "tags" and commoner:
            message = f"no other principle has the tag {tag!r}, so it groups nothing"
            fix = "remove it, unless other principles will share it"
            yield self._say(principle, place, "unused-tag", message, fix)

    def _at(self, principle: Principle, place: str) -> Spot:
        name, *steps = place.split(".")
        spots = self._spots[principle.id]
        if name not in spots:
            return spots["id"]
        return spots[name].within(*(int(step) if step.isdigit() else step for step in steps))

    def _say(self, principle: Principle, place: str, code: str, message: str, fix: str) -> Finding:
        severity = _SEVERITIES.get(code, "warning")
        return self._at(principle, place).finding(
            severity, code, message, fix, principle=principle.id
        )
