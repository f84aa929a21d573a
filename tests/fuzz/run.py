"""One fuzzing process: `python -m tests.fuzz.run TARGET [libFuzzer options and corpus folders]`.

TARGET `all` lets the first byte of each input choose the target: a short run covers every parser in one process.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(
    include=[
        "common",
        "dux_p2pd",
        "dux_pay",
        "dux_airdropd",
        "dux_escrowd",
        "dux_registryd",
        "python_socks",
        "async_upnp_client",
        "yaml",
    ],
    enable_loader_override=False,
):
    from tests.fuzz.targets import TARGETS

ORDER = sorted(TARGETS)  # as dux_cli.fuzz numbers them


def every(data: bytes) -> None:
    """The target that the first byte names."""
    if data:
        TARGETS[ORDER[data[0] % len(ORDER)]](data[1:])


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name = sys.argv[1]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], every if name == "all" else TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
