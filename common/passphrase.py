"""Is a passphrase strong enough for a file that somebody may copy and try at home?

Rule: at least 10^10 guesses by zxcvbn's estimate, its best grade. A guess costs a third of a second and 64 MiB
(Argon2id on main), so that a thief with a thousand processors needs about a month; a further word multiplies that by
thousands.
Source: money.md §3; D. Wheeler, "zxcvbn: Low-Budget Password Strength Estimation", 2016.
"""

from __future__ import annotations

from common.errors import CallerMistake

GUESSES_LOG10_MIN = 10
CHARS_MAX = 1_000
CHARS_JUDGED = 100  # more only makes the estimate slow


class WeakPassphrase(CallerMistake):
    """The passphrase would be guessed: {reason}; take four or more words that do not belong together."""

    code = 2036
    key = "weak-passphrase"


def check_strength(passphrase: str) -> None:
    """Nothing happens for a strong one. It is not repeated in the error.

    Raises:
        WeakPassphrase: with what makes it easy.
    """
    from zxcvbn import zxcvbn  # noqa: PLC0415 - its word lists take a tenth of a second, which only this needs

    if not passphrase or len(passphrase) > CHARS_MAX:
        raise WeakPassphrase(reason=f"it is empty, or longer than {CHARS_MAX} characters")
    found = zxcvbn(passphrase[:CHARS_JUDGED])
    if found["guesses_log10"] < GUESSES_LOG10_MIN:
        hints = [found["feedback"]["warning"], *found["feedback"]["suggestions"]]
        said = " ".join(hint.rstrip(".") + "." for hint in hints if hint).lower().rstrip(".")
        raise WeakPassphrase(reason=said or f"about 10^{int(found['guesses_log10'])} tries suffice")
