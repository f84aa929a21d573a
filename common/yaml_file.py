"""YAML files that people hand each other: read within limits, or refused by name.

Promises: whatever the bytes are, the outcome is plain data or `BadSettings`. PyYAML alone lets a few inputs end in
other errors (text that is no UTF-8, a date that does not exist, brackets without end), and a few aliases can stand for
gigabytes; so length, depth and aliases are bounded here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from common.errors import BadSettings

FILE_BYTES_MAX = 1024 * 1024
ALIASES_MAX = 16  # a file of ours has none


class _Loader(yaml.SafeLoader):
    """Plain data with few aliases."""

    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > ALIASES_MAX:
                raise yaml.YAMLError(f"more than {ALIASES_MAX} aliases: write out what they stand for")
        return super().compose_node(parent, index)


def read_yaml(path: Path, *, max_bytes: int = FILE_BYTES_MAX) -> Any:
    """The plain data in a file; None for an empty one.

    Raises:
        BadSettings: it cannot be read, with the reason in one line.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise BadSettings(path=str(path), detail=f"it is longer than {max_bytes} bytes")
        return yaml_in(path.read_bytes())
    except OSError as error:
        raise BadSettings(path=str(path), detail=error.strerror or type(error).__name__) from error
    except ValueError as error:
        raise BadSettings(path=str(path), detail=str(error).replace("\n", " ")) from error


def yaml_in(data: bytes) -> Any:
    """The plain data in these bytes.

    Raises:
        ValueError: there is none, or too much of it.
    """
    try:
        return yaml.load(data.decode(), _Loader)  # noqa: S506 - a SafeLoader with a limit
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
