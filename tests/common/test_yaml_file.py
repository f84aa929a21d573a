"""YAML that somebody hands over: plain data or one named error, whatever the bytes are."""

from pathlib import Path

import pytest

from common.errors import BadSettings
from common.network import NetworkProfile, load_profile
from common.yaml_file import ALIASES_MAX, read_yaml

BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]" for n in range(ALIASES_MAX))])
PROFILE = NetworkProfile(name="n", chain="embedded", genesis="ab" * 32, heights="demo")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\xff\xfe\xfa", "decode"),
        (b"at: 2001-99-99", "month"),
        (b"[" * 5_000, "deeply"),
        (b"{a: 1, {b: 2}: 3}", "unhashable"),
        (b"a: b: c", "mapping"),
        (b"!!python/object:os.system x", "tag"),
        (b"!!int ten", "literal"),
        (b"? [a]\n: b", "key"),
        (BOMB.encode(), "aliases"),
        (b"# " + b"x" * 200, "longer"),
    ],
)
def test_what_is_no_plain_data_is_refused_by_name(tmp_path: Path, data: bytes, word: str) -> None:
    """In one line, with the file; Planted bug noticed: PyYAML alone raises six kinds of errors for these."""
    path = tmp_path / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(BadSettings, match=word) as told:
        read_yaml(path, max_bytes=100 if word == "longer" else 10_000)
    assert "\n" not in str(told.value)


def test_plain_data_is_read(tmp_path: Path) -> None:
    """Few aliases are no bomb; an empty file is nothing; a missing one is told."""
    path = tmp_path / "x.yaml"
    path.write_text("a: &x [1]\nb: *x\n")
    assert read_yaml(path) == {"a": [1], "b": [1]}
    path.write_text("")
    assert read_yaml(path) is None
    with pytest.raises(BadSettings, match="No such file"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("genesis: " + "zz" * 32, "64 hex"),
        ("genesis: '" + "ab " * 32 + "'", "64 hex"),
        ("benchmark: {hold_s: .nan}", "hold_s"),
        ("benchmark: {hold_s: 1e9}", "hold_s"),
        ("fund: {threshold: 1, custodians: [{did: x, pubkey: '02'}]}", "33 bytes"),
    ],
)
def test_a_profile_that_no_node_could_use_is_refused_when_it_is_read(tmp_path: Path, line: str, word: str) -> None:
    """Not later, by an internal error."""
    path = tmp_path / "n.yaml"
    path.write_text(f"name: n\nchain: embedded\ngenesis: {'ab' * 32}\nheights: demo\n")
    assert load_profile(path) == PROFILE
    text = path.read_text()
    path.write_text((text.replace(f"genesis: {'ab' * 32}\n", "") if line.startswith("genesis") else text) + line + "\n")
    with pytest.raises(BadSettings, match=word):
        load_profile(path)
