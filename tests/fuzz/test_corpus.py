"""The kept corpus, the findings of the past, and a seeded walk around both, without the fuzzer itself."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from common.randomness import SeededRandomness
from tests.attacks.registry import attack, met
from tests.fuzz import targets_files, targets_lan, targets_papers
from tests.fuzz.targets import TARGETS, seeds

HERE = Path(__file__).parent
CHANGED_PER_TARGET = 300
CORPUS_BYTES_MAX = 512 * 1024


def kept(target: str) -> list[bytes]:
    """Corpus and findings of a target."""
    folders = (HERE / "corpus" / target, HERE / "findings" / target)
    return [file.read_bytes() for folder in folders if folder.exists() for file in sorted(folder.iterdir())]


def changed(data: bytes, random: SeededRandomness) -> bytes:
    """A neighbour: bytes changed, cut out, doubled."""
    out = bytearray(data or b"\x00")
    for _ in range(1 + random.below(4)):
        at, act = random.below(len(out)), random.below(4)
        if act == 0:
            out[at] = random.below(256)
        elif act == 1:
            del out[at : at + 1 + random.below(8)]
        elif act == 2:
            out[at:at] = out[at : at + 1 + random.below(16)]
        else:
            out[at:at] = random.bytes(1 + random.below(4))
        out = out or bytearray(1)
    return bytes(out)


@pytest.mark.parametrize("target", sorted(TARGETS))
@attack(
    "decoding",
    tries="fuzzing: the kept corpus of every parser of outside bytes, past findings, and 300 neighbours of them",
    meets="taken in its one form, or a named error; never another exception, never beyond a limit",
)
def test_corpus_findings_and_neighbours(target):
    """`./duxnet fuzz` finds; what it once found is tried here for ever."""
    random, examples = SeededRandomness(7), kept(target)
    assert examples, f"no corpus for {target}: python -m tests.fuzz.seeds"
    for data in examples:
        TARGETS[target](data)
    for _ in range(CHANGED_PER_TARGET):
        TARGETS[target](changed(examples[random.below(len(examples))], random))
    met(f"{target}: {len(examples)} kept, {CHANGED_PER_TARGET} neighbours")


@pytest.mark.parametrize(
    "target",
    [
        "nat_pmp", "pcp_answer", "upnp_router", "mdns", "tpm_quote", "gossip_frame", "network_file", "case_file",
        "presentation",
    ],
)  # fmt: skip
def test_honest_examples_are_taken(target, monkeypatch):
    """Nothing is suppressed here: an example that were refused would test the refusal alone."""
    monkeypatch.setattr(targets_lan, "suppress", lambda *_: nullcontext())
    monkeypatch.setattr(targets_papers, "suppress", lambda *_: nullcontext())
    monkeypatch.setattr(targets_files, "suppress", lambda *_: nullcontext())
    for data in seeds()[target]:
        TARGETS[target](data)


def test_honest_files_hold():
    """A file whose parts are its own holds; what is fuzzed is changed from there, not from a file that is refused."""
    given = targets_files.file_seeds()
    for data in given["proof_file"]:
        assert [verdict.problems for verdict in targets_files.proof_verdict(data)] == [[], []]
    for data in given["case_file"]:
        assert targets_files.case_audit(data).problems == ()
    assert all(targets_files.claim_verdict(data).valid for data in given["presentation"])


def test_every_target_has_a_small_corpus():
    """The folders are the targets (the combined run numbers them alike); the honest examples are met rightly."""
    assert sorted(path.name for path in (HERE / "corpus").iterdir()) == sorted(TARGETS)
    assert sum(file.stat().st_size for file in (HERE / "corpus").rglob("*") if file.is_file()) <= CORPUS_BYTES_MAX
    for target, examples in seeds().items():
        for data in examples:
            TARGETS[target](data)
