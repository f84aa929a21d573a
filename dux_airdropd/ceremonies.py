"""A member's half of key ceremonies: its own words, asked for by others; theirs, asked for until all are there.

Promises: a node takes part only in what its operator gave it; it shows its key before it knows the others', and agrees
to a script only when every member has shown a key that it holds. Words are kept as they came first: a member that shows
two keys is stuck in its ceremony, and a new one is planned without it.
"""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from common.ceremony import (
    WORD_BYTES_MAX,
    CeremonyPlan,
    FundWord,
    Roster,
    plan_id,
    plan_problem,
    roster_problem,
    script_of_words,
    word_problem,
)
from common.codec import canonical, from_canonical
from common.contracts.peer_airdrop import CeremonyAsk, CeremonyWords
from common.errors import BadParams, DuxError, NotFound
from common.units import Did
from dux_airdropd.effects import Outside
from dux_airdropd.store import Books


class Ceremonies:
    """The key ceremonies that this node takes part in."""

    def __init__(self, books: Books, outside: Outside, *, network: str, log: FilteringBoundLogger) -> None:
        self._books = books
        self._outside = outside
        self._network = network
        self._log = log

    async def join(self, plan: CeremonyPlan) -> None:
        """Take part: make the key and keep the first word.

        Raises:
            BadParams: the plan cannot work, or this node is no member.
        """
        own = await self._outside.own_did()
        problem = plan_problem(plan, self._network) or ("" if own in plan.members else "this node is no member")
        if problem:
            raise BadParams(detail=f"ceremony: {problem}")
        word = await self._outside.prove(plan, own, b"")
        with self._books.store.transaction() as tx:
            if not self._books.add_ceremony(tx, plan):
                raise BadParams(detail="ceremony: this node takes part in too many")
            self._books.put_words(tx, plan_id(plan), own, canonical(word), b"")
            tx.audit("ceremony joined", {"name": plan.name, "key": word.claim.pubkey.hex()})

    async def show(self, ask: CeremonyAsk, sender: Did) -> CeremonyWords:
        """This node's own words, to another member."""
        plan = self._books.ceremony(ask.ceremony_id)
        if plan is None or sender not in plan.members:
            raise NotFound(what="ceremony", name=ask.ceremony_id.hex())
        key_word, roster_word = self._books.words(ask.ceremony_id)[await self._outside.own_did()]
        return CeremonyWords(key_word, roster_word)

    async def work(self) -> None:
        """Ask those whose words are missing; agree once every key is there."""
        for plan in self._books.ceremonies():
            if self.roster(plan) is None:
                await self._ask_others(plan)
                await self._agree(plan)

    async def _ask_others(self, plan: CeremonyPlan) -> None:
        held, own = self._books.words(plan_id(plan)), await self._outside.own_did()
        for did in plan.members:
            if did == own or (did in held and held[did][1]):
                continue
            try:
                self._take(plan, did, await self._outside.ask_words(did, CeremonyAsk(plan_id(plan))))
            except DuxError as error:
                self._log.info("ceremony waits for member", did=did, reason=error.message)

    def _take(self, plan: CeremonyPlan, did: Did, words: CeremonyWords) -> None:
        key_word = from_canonical(words.key_word, FundWord, max_bytes=WORD_BYTES_MAX)
        problem = word_problem(key_word, plan, did, b"")
        if problem:
            raise BadParams(detail=problem)
        script = self._script(plan, {did: words.key_word})
        roster_word = b""
        if words.roster_word and script:
            agreed = from_canonical(words.roster_word, FundWord, max_bytes=WORD_BYTES_MAX)
            problem = word_problem(agreed, plan, did, script)
            if problem:
                raise BadParams(detail=problem)
            roster_word = words.roster_word
        with self._books.store.transaction() as tx:
            self._books.put_words(tx, plan_id(plan), did, words.key_word, roster_word)

    def _script(self, plan: CeremonyPlan, more: dict[Did, bytes] | None = None) -> bytes:
        """The script of all members' keys; empty while some are missing."""
        held = {did: key for did, (key, _) in self._books.words(plan_id(plan)).items()}
        words = (more or {}) | held
        if set(words) != set(plan.members):
            return b""
        keys = {
            did: from_canonical(word, FundWord, max_bytes=WORD_BYTES_MAX).claim.pubkey for did, word in words.items()
        }
        return script_of_words(plan, keys) if len(set(keys.values())) == len(keys) else b""

    async def _agree(self, plan: CeremonyPlan) -> None:
        own, script = await self._outside.own_did(), self._script(plan)
        key_word, roster_word = self._books.words(plan_id(plan))[own]
        if not script or roster_word:
            return
        word = await self._outside.prove(plan, own, script)
        with self._books.store.transaction() as tx:
            self._books.put_words(tx, plan_id(plan), own, key_word, canonical(word))
            tx.audit("ceremony agreed", {"name": plan.name, "script": script.hex()})

    def roster(self, plan: CeremonyPlan) -> Roster | None:
        """The outcome, once every member has agreed."""
        held = self._books.words(plan_id(plan))
        if any(did not in held or not held[did][1] for did in plan.members):
            return None
        keys, agreed = (
            tuple(from_canonical(held[did][at], FundWord, max_bytes=WORD_BYTES_MAX) for did in plan.members)
            for at in (0, 1)
        )
        roster = Roster(plan, keys, agreed)
        return None if roster_problem(roster, self._network) else roster

    def missing(self, plan: CeremonyPlan) -> tuple[list[Did], list[Did]]:
        """Whose key, and whose agreement is not here yet."""
        held = self._books.words(plan_id(plan))
        no_key = [did for did in plan.members if did not in held]
        return no_key, [did for did in plan.members if did in held and not held[did][1]]
