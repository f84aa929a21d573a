"""What a person typed into the search field, made into words, phrases and tags; and the index's own language from them.

Nothing a person types can be wrong or reach the index as its syntax: every word is quoted. A word matches from its
start (`upscal` finds `upscaling`); "exact phrases" in double quotes; #tags.
"""

from __future__ import annotations

import re
import unicodedata

from dux_stored.model import Query
from dux_stored.rules import tag_of

TEXT_CHARS_MAX = 400
WORDS_MAX = 16  # more are left out: a longer question only gets slower
WORD_CHARS_MAX = 48
DHT_WORDS_MAX = 6  # words of a service's name that it can be found by in the DHT
DHT_WORD_CHARS_MIN = 3

_PART = re.compile(r'"([^"]*)"?|(\S+)')
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> tuple[str, ...]:
    """The words in a text as the index splits them: letters and digits, lower case, in order, each once."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return tuple(dict.fromkeys(word[:WORD_CHARS_MAX] for word in _WORD.findall(plain)))


def parse_query(text: str) -> Query:
    """A search text taken apart. Any text is a query; what asks for nothing is left out."""
    words: list[str] = []
    phrases: list[str] = []
    tags: list[str] = []
    for phrase, word in _PART.findall(text[:TEXT_CHARS_MAX]):
        if phrase:
            phrases.append(" ".join(words_of(phrase)))
        elif word.startswith("#"):
            tags.append(tag_of(word))
        else:
            words.extend(words_of(word))
    return Query(words=_few(words), phrases=_few(phrases), tags=_few(tags))


def _few(parts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for part in parts if part))[:WORDS_MAX]


def index_expression(query: Query) -> str:
    """The query in SQLite FTS5's language: all must fit; empty when there are neither words nor phrases."""
    parts = [f'"{phrase}"' for phrase in query.phrases] + [f'"{word}"*' for word in query.words]
    return " AND ".join(parts)


def dht_names(name: str, tags: tuple[str, ...]) -> tuple[str, ...]:
    """The names a service is put under in the DHT's tag namespace: its tags, its name's words, and `all`."""
    words = [word for word in words_of(name) if len(word) >= DHT_WORD_CHARS_MIN][:DHT_WORDS_MAX]
    return tuple(sorted({"all", *(f"t/{tag}" for tag in tags), *(f"w/{word}" for word in words)}))


def dht_lookups(query: Query, tags: tuple[str, ...]) -> tuple[str, ...]:
    """The names to look a query up under: its tags and longest words; `all` when it has neither."""
    words = sorted((w for w in query.words if len(w) >= DHT_WORD_CHARS_MIN), key=lambda word: (-len(word), word))
    names = [f"t/{tag}" for tag in (*query.tags, *tags)] + [f"w/{word}" for word in words[:3]]
    return tuple(dict.fromkeys(names))[:DHT_WORDS_MAX] or ("all",)
