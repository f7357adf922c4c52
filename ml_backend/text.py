"""Text from outside in messages."""

LONGEST = 120
_HEAD = 80


def shorten(value: object, longest: int = LONGEST) -> str:
    """Return a value from outside as a message shows it: on one line, its middle cut out.

    Whatever a person or another program wrote (an address, a name, a whole image as text) goes
    through here before it stands in a status, a log, an error or the reason of a task.
    """
    text = str(value)
    cut = len(text) > longest
    if cut:
        head = min(_HEAD, 2 * longest // 3)
        tail = longest - head - 1
        left_out = len(text) - head - tail
        text = f"{text[:head]}…{text[len(text) - tail :]}"
    shown = "".join(letter if _is_plain(letter) else _escape(letter) for letter in text)
    return f"{shown} ({left_out:,} characters left out)" if cut else shown


def _is_plain(letter: str) -> bool:
    return letter.isprintable() or not (letter < " " or "\x7f" <= letter <= "\x9f" or _odd(letter))


def _odd(letter: str) -> bool:
    return "\ud800" <= letter <= "\udfff" or letter in "\u2028\u2029"


def _escape(letter: str) -> str:
    return ascii(letter)[1:-1]
