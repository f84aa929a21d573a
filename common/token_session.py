"""A session with a PKCS#11 token: opened by PIN, every fault of the token in one error of ours.

Knows nothing of what keys are for. The library is an extra (`pip install duxnet[token]`), looked for when a session is
opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import Unavailable


class TokenAway(Unavailable):
    """The PKCS#11 token {token} does not answer ({detail}): is it plugged in, is the PIN in {pin_file} right?"""

    code = 8033
    key = "token-away"


class TokenSession:
    """One session; a login is for all sessions of a process."""

    def __init__(self, module: str, token: str, pin_file: str) -> None:
        """Open it.

        Raises:
            TokenAway: there is no such token, or the PIN is wrong.
        """
        import pkcs11  # noqa: PLC0415 - an extra, which a node without a token does not have

        self._token = token
        self._faults = (pkcs11.PKCS11Error, OSError, RuntimeError)
        self._pin_file = pin_file
        with self.asked():
            found = pkcs11.lib(module).get_token(token_label=token)
            pin = Path(pin_file).read_text().strip()
            try:
                self.session = found.open(user_pin=pin, rw=True)
            except pkcs11.UserAlreadyLoggedIn:
                self.session = found.open(rw=True)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """What the token does wrong inside becomes `TokenAway`."""
        try:
            yield
        except self._faults as error:
            detail = f"{type(error).__name__} {error}".strip()
            raise TokenAway(token=self._token, detail=detail, pin_file=self._pin_file) from error

    def close(self) -> None:
        """End the session."""
        self.session.close()
