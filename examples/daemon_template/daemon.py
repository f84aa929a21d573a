"""A daemon of your own, on the same base as DuxNet's.

It counts words, remembers its answers, and tells whoever follows its events. Copy this folder, rename, and put your own
methods where `count` is; everything else (tokens, limits, probes, logs, backup, systemd) comes from `DuxOSDaemon`.
"""

from __future__ import annotations

from common.codec import Wire
from common.contracts.base import events_method
from common.daemon import DuxOSDaemon
from common.errors import CallerMistake
from common.parts import Parts
from common.rpc.method import Method
from common.rpc.table import Ctx
from common.settings import DaemonSettings

MIGRATIONS = ["CREATE TABLE texts (id INTEGER PRIMARY KEY, words INTEGER NOT NULL);"]


class TextTooLong(CallerMistake):
    """The text has {found} characters; this daemon counts at most {limit}: split it."""

    code = 9001  # 9000 and above are free for third parties
    key = "text-too-long"


class Settings(DaemonSettings, frozen=True, kw_only=True):
    """What `config.yaml` may hold besides the keys that every daemon has."""

    port: int = 32590  # 0 takes any free port
    text_chars_max: int = 10_000


class CountParams(Wire, frozen=True):
    """A text to count; the same `request_id` again gets the first answer."""

    request_id: str
    text: str


class CountResult(Wire, frozen=True):
    """How many words it has, and how many were counted since the beginning."""

    words: int
    total: int


COUNT: Method[CountParams, CountResult] = Method(
    name="example.count",
    params=CountParams,
    result=CountResult,
    summary="Count the words of a text, once per request_id.",
    callers=("cli", "module"),
    once=True,
    raises=(TextTooLong,),
    example=(CountParams(request_id="r1", text="one two"), CountResult(words=2, total=2)),
)
EVENTS = events_method("example", ("cli", "module"))


class ExampleDaemon(DuxOSDaemon[Settings]):
    """Guards nothing, promises to count each text once."""

    name = "exampled"
    settings_type = Settings

    async def assemble(self, parts: Parts[Settings]) -> None:
        """Store, methods, events: the parts meet here and nowhere else."""
        store = parts.store(MIGRATIONS)

        async def count(params: CountParams, ctx: Ctx) -> CountResult:
            if len(params.text) > parts.settings.text_chars_max:
                raise TextTooLong(found=len(params.text), limit=parts.settings.text_chars_max)
            words = len(params.text.split())
            with store.transaction() as tx:  # one decision: the count, its event and its answer land together
                tx.execute("INSERT INTO texts (words) VALUES (?)", words)
                row = tx.row("SELECT sum(words) AS total FROM texts")
                result = CountResult(words=words, total=row["total"] if row else words)
                tx.emit("TextCounted", result)
                ctx.remember(tx, result)
            return result

        parts.table.serve(COUNT, count)
        parts.serve_events(EVENTS, store)


if __name__ == "__main__":
    ExampleDaemon.main()
