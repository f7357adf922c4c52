"""Names of labels that people have and programs stumble over."""

import unicodedata

from hypothesis import strategies as st

NASTY = (
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian with a non-joiner
    "\U0001f469\u200d\U0001f52c cell",  # emoji that are joined
    "a\u00a0b",
    "thin\u2009space",
    "zero\u200bwidth",
    "soft\u00adhyphen",
    "\u202eright to left",
    "\ufeffmark",
    "private\ue000",
    "A\u0308",
    "\u00c4",
    "\u65e5\u672c\u8a9e",
    "\U0001d518",
    "a & b",
    '"quoted"',
    "it's",
    "'",
    "<cell>",
    "a/b",
    "a\\b",
    "..",
    ".",
    "C:",
    "CON",
    "name.png",
    "a, b",
    "a; b",
    "a: b",
    "- a",
    "# a",
    "$image",
    "{name}",
    "%s",
    "=1+1",
    "null",
    "true",
    "1",
    "0",
    "-1",
    "1e3",
    " leading",
    "trailing ",
    "two  spaces",
    "background",
    "Background",
    "unknown",
    "x" * 300,
    "\u65e5" * 120,
)

names = st.sampled_from(NASTY) | st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=12,
).filter(lambda text: not {unicodedata.category(letter) for letter in text} <= {"Cf", "Zs"})
