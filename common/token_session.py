"""A session with a PKCS#11 token: opened by PIN, every fault of the token in one error of ours.

Knows nothing of what keys are for. The library is an extra (`DUXNET_EXTRAS=token`), looked for when a session
is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
        self._lib = pkcs11
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
        except (self._lib.PKCS11Error, OSError, RuntimeError) as error:
            detail = f"{type(error).__name__} {error}".strip()
            raise TokenAway(token=self._token, detail=detail, pin_file=self._pin_file) from error

    def put_pair(self, shared: dict[Any, Any], secret: bytes, point: bytes) -> bool:
        """Move a key pair into the token, whose secret half cannot be read again; False if its label is there.

        `shared`: what both halves say, their label among it; `point`: the public half as DER.

        Raises:
            TokenAway: the token does not take it.
        """
        attribute, kind = self._lib.Attribute, self._lib.ObjectClass
        private = {
            attribute.CLASS: kind.PRIVATE_KEY,
            attribute.PRIVATE: True,
            attribute.SENSITIVE: True,
            attribute.EXTRACTABLE: False,
            attribute.SIGN: True,
            attribute.VALUE: secret,
        }
        public = {attribute.CLASS: kind.PUBLIC_KEY, attribute.VERIFY: True, attribute.EC_POINT: point}
        with self.asked():
            if any(True for _ in self.session.get_objects({attribute.LABEL: shared[attribute.LABEL]})):
                return False
            self.session.create_object(shared | private)
            self.session.create_object(shared | public)
        return True

    def close(self) -> None:
        """End the session."""
        self.session.close()
