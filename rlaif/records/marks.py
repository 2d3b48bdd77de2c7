"""Combining marks: text whose Unicode normalisation takes time in proportion to its length.

Normalising sorts the marks of a run of them, in time that grows with the square of the run: 40,000
take five seconds. No script needs more than 30 in a row (Unicode Standard Annex 15, section 13),
and the annex's own remedy is a mark that does nothing and ends the run.
"""

import re

_RUN = re.compile(r"[^\w\x00-\x7f]{30}(?=[^\w\x00-\x7f])")
_JOINER = "\u034f"


def split_marks(text: str) -> str:
    """Return the text with a joiner after every 30 marks or symbols in a row; seldom any."""
    return text if text.isascii() else _RUN.sub(rf"\g<0>{_JOINER}", text)
