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
from rlaif.constitution.load import LoadedFile, read_constitution
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
    return _in_file_order(findings, loaded)


def _in_file_order(findings: list[Finding], loaded: LoadedFile) -> tuple[Finding, ...]:
    """Findings in the linted file first, then those in the files it extends."""
    root = str(loaded.root.document.path)
    return tuple(sorted(findings, key=lambda f: (f.file != root, f.file, f.line, f.column, f.code)))


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
            fix = "set a weight above 0, or remove the principle"
            code, what = "zero-weight", "weight is 0, so the principle is never drawn"
            yield self._say(principle, "weight", "warning", code, what, fix)

    def repeats(self, constitution: Constitution) -> Iterator[Finding]:
        """Find statements that say the same thing twice."""
        for first, later in combinations(constitution.principles, 2):
            alike = wording.likeness(first.statement, later.statement)
            where = self._at(first, "statement").finding("info", "", "").where
            if alike == 1:
                code, what = "duplicate-statement", f"the same words as {first.id!r} at {where}"
                yield self._say(later, "statement", "warning", code, what, "remove one of them")
            elif alike >= ALIKE:
                code, what = "near-duplicate", f"nearly the same as {first.id!r} at {where}"
                fix = "remove one of them, or say how they differ"
                yield self._say(later, "statement", "warning", code, what, fix)

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
                    code, what = "unmatched-applies-to", f"no prompt has the tag {tag!r}"
                    fix = f"prompts have: {', '.join(sorted(prompt_tags)) or 'no tags'}"
                    yield self._say(principle, f"applies_to.{index}", "warning", code, what, fix)
        active = [principle for principle in constitution.principles if principle.weight > 0]
        mentioned = {tag for principle in active for tag in principle.applies_to}
        for tag in sorted(set(prompt_tags) - mentioned):
            if any(principle.applies((tag,)) for principle in active):
                severity: Severity = "info"
                what = f"no applies_to names the prompt tag {tag!r}"
                fix = "fine unless some principles are meant for these prompts"
            else:
                severity = "warning"
                what = f"no principle applies to prompts tagged only {tag!r}"
                fix = "add the tag to an applies_to, or leave applies_to out of a principle"
            spot = self._root.within("principles")
            yield spot.finding(severity, "unused-prompt-tag", what, fix)

    def _statement(self, principle: Principle) -> Iterator[Finding]:
        words = wording.vague_words(principle.statement)
        if words:
            code, what = "vague", f"{', '.join(map(repr, words))} can mean anything"
            fix = "say what a reader would see in the response"
            yield self._say(principle, "statement", "warning", code, what, fix)
        if len(principle.statement.split()) < wording.FEWEST_WORDS:
            code, what = "too-short", f"{principle.statement!r} leaves its meaning to the reader"
            fix = "say who does what, and in which case"
            yield self._say(principle, "statement", "warning", code, what, fix)
        joined = wording.joined_demands(principle.statement)
        if joined:
            code, what = "double-barrelled", f"two demands in one statement ({joined!r})"
            yield self._say(
                principle, "statement", "warning", code, what, "split it into two principles"
            )

    def _polarity(self, principle: Principle) -> Iterator[Finding]:
        expected = "avoid" if wording.forbids(principle.statement) else "encourage"
        if principle.kind == "judged" and principle.polarity != expected:
            how = "forbids" if expected == "avoid" else "asks for something"
            code, what = (
                "polarity-mismatch",
                f"the statement {how}, but polarity is {principle.polarity}",
            )
            yield self._say(
                principle, "polarity", "warning", code, what, f"write {expected}, or reword"
            )

    def _requests(self, principle: Principle) -> Iterator[Finding]:
        if principle.kind == "rule":
            return
        for name, fix in _REQUESTS.items():
            if not getattr(principle, name):
                code = f"missing-{name.replace('_', '-')}"
                yield self._say(principle, name, "warning", code, f"{name} is missing", fix)
        if principle.comparison and not principle.comparison.endswith("?"):
            code, what = "comparison-not-a-question", "it does not end with a question mark"
            yield self._say(
                principle, "comparison", "warning", code, what, "ask 'Which response ...?'"
            )
        if not principle.opposite:
            fix = "contrastive methods need the statement reversed"
            code, what = "missing-opposite", "opposite is missing"
            yield self._say(principle, "opposite", "info", code, what, fix)

    def _examples(self, principle: Principle) -> Iterator[Finding]:
        if not principle.examples:
            fix = "one prompt with a better and a worse response tests what you mean"
            code, what = "missing-examples", "examples are missing"
            yield self._say(principle, "examples", "info", code, what, fix)
        for index, example in enumerate(principle.examples):
            place = f"examples.{index}"
            if example.better == example.worse:
                code, what = "example-tie", "better and worse are the same text"
                yield self._say(principle, place, "error", code, what, "change one of them")
            elif principle.rule is not None:
                failed = explain_rule(principle.rule, example.better)
                if failed:
                    code, what = (
                        "example-breaks-rule",
                        f"better does not satisfy the rule ({'; '.join(failed)})",
                    )
                    yield self._say(
                        principle, f"{place}.better", "error", code, what, "fix the example"
                    )
                if not explain_rule(principle.rule, example.worse):
                    code, what = "example-breaks-rule", "worse satisfies the rule, too"
                    yield self._say(
                        principle, f"{place}.worse", "error", code, what, "fix the example"
                    )

    def _patterns(self, principle: Principle) -> Iterator[Finding]:
        for name in ("must_match", "must_not_match"):
            pattern = getattr(principle.rule, name, None)
            if pattern is not None and wording.repeats_a_repetition(pattern):
                code, what = (
                    "slow-pattern",
                    "nested repetition: matching can take exponential time",
                )
                fix = "limit one of the repetitions, such as {1,50} in place of +"
                yield self._say(principle, f"rule.{name}", "warning", code, what, fix)

    def _tag(
        self, principle: Principle, name: str, index: int, used: Counter[str]
    ) -> Iterator[Finding]:
        tag = getattr(principle, name)[index]
        place = f"{name}.{index}"
        if used[tag] > 1:
            return
        commoner = [other for other in used if used[other] > 1]
        close = difflib.get_close_matches(tag, commoner, n=1, cutoff=0.8)
        if close:
            code, what = "misspelt-tag", f"{tag!r} looks like {close[0]!r}"
            yield self._say(principle, place, "warning", code, what, f"write {close[0]!r}")
        elif name == "tags" and commoner:
            code, what = (
                "unused-tag",
                f"no other principle has the tag {tag!r}, so it groups nothing",
            )
            yield self._say(
                principle,
                place,
                "info",
                code,
                what,
                "remove it, unless other principles will share it",
            )

    def _at(self, principle: Principle, place: str) -> Spot:
        name, *steps = place.split(".")
        spots = self._spots[principle.id]
        if name not in spots:
            return spots["id"]
        return spots[name].within(*(int(step) if step.isdigit() else step for step in steps))

    def _say(
        self,
        principle: Principle,
        place: str,
        severity: Severity,
        code: str,
        message: str,
        fix: str,
    ) -> Finding:
        spot = self._at(principle, place)
        return spot.finding(severity, code, message, fix, principle=principle.id)
