"""Search texts: anything may be typed, nothing becomes the index's own syntax."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dux_stored.model import Query
from dux_stored.query_rules import dht_lookups, dht_names, index_expression, parse_query, words_of


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", Query((), (), ())),
        ("Upscale my IMAGE image", Query(("upscale", "my", "image"), (), ())),
        ("#AI  #image-processing", Query((), (), ("ai", "image-processing"))),
        ('"bicubic  Lanczos" upscal', Query(("upscal",), ("bicubic lanczos",), ())),
        ('"open ended', Query((), ("open ended",), ())),
        ('"" # "..." --', Query((), (), ())),
        ("re-size", Query(("re", "size"), (), ())),
    ],
)
def test_a_text_is_taken_apart(text: str, query: Query) -> None:
    """Words, phrases and tags, each once and in order; what says nothing is left out."""
    assert parse_query(text) == query
    assert query.empty == (query == Query((), (), ()))


@given(st.text(max_size=120))
def test_no_text_breaks_the_index(text: str) -> None:
    """Whatever is typed, FTS5 takes the expression made of it."""
    expression = index_expression(parse_query(text))
    index = sqlite3.connect(":memory:")
    index.execute("CREATE VIRTUAL TABLE offers USING fts5(name, tokenize = 'unicode61 remove_diacritics 0')")
    if expression:
        index.execute("SELECT * FROM offers WHERE offers MATCH ?", (expression,)).fetchall()
    index.close()


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=60))
def test_words_found_are_words_stored(text: str) -> None:
    """A service whose name is the text is found by every word in it."""
    index = sqlite3.connect(":memory:")
    index.execute("CREATE VIRTUAL TABLE offers USING fts5(name, tokenize = 'unicode61 remove_diacritics 0')")
    index.execute("INSERT INTO offers VALUES (?)", (text,))
    for word in words_of(text):
        expression = index_expression(Query((word,), (), ()))
        assert index.execute("SELECT count(*) FROM offers WHERE offers MATCH ?", (expression,)).fetchone() == (1,)
    index.close()


def test_a_long_question_is_cut() -> None:
    """At most sixteen words, none longer than 48."""
    query = parse_query(" ".join(f"word{n}" for n in range(40)) + "x" * 300)
    assert len(query.words) == 16
    assert max(len(word) for word in parse_query("y" * 300).words) == 48


@given(st.text(max_size=60), st.lists(st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True), max_size=12))
def test_what_is_looked_up_was_put(name: str, tags: list[str]) -> None:
    """A search for any tag or longer word of a service looks under a name that the service was put under."""
    names = dht_names(name, tuple(tags))
    assert "all" in names
    assert all(len(place) <= 64 for place in names)
    for tag in tags:
        assert f"t/{tag}" in dht_lookups(Query((), (), (tag,)), ())
        assert f"t/{tag}" in names
    for word in [word for word in words_of(name) if len(word) >= 3][:6]:
        assert dht_lookups(Query((word,), (), ()), ()) == (f"w/{word}",)
        assert f"w/{word}" in names


def test_a_search_for_anything_looks_under_all() -> None:
    """Nothing in particular, or only words too short to be put anywhere, looks under `all`."""
    assert dht_lookups(Query((), (), ()), ()) == ("all",)
    assert dht_lookups(Query(("ai",), (), ()), ()) == ("all",)
    assert dht_lookups(Query((), (), ("a",)), ("b",)) == ("t/a", "t/b")
