"""`python -m tests.fuzz.seeds`: write the honest examples of `targets.seeds` into the corpus, named by their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.fuzz.targets import seeds

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """What is there stays."""
    for target, examples in seeds().items():
        for data in examples:
            folder = CORPUS / target
            folder.mkdir(parents=True, exist_ok=True)
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    main()
