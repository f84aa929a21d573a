"""The routing table's answers about nearness, against the definition of it."""

from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.units import Did, UnixMs
from dux_p2pd.routing import DuxNode, DuxTable
from tests.p2pd.dht_kit import did_number

OWN = DuxNode(did_number(1), "", 0)
NODES = [DuxNode(did_number(number), f"10.{number // 250}.{number % 250}.1", 1) for number in range(2, 120)]
KEYS = st.binary(min_size=32, max_size=32) | st.sampled_from([OWN.id, *(node.id for node in NODES)])


def table_of(numbers: set[int], gone: set[int]) -> DuxTable:
    """A table that has met these, and lost some of them."""
    table = DuxTable(OWN, ManualClock(UnixMs(1_790_000_000_000)))
    for number in sorted(numbers):
        table.add_contact(NODES[number])
    for number in sorted(gone):
        table.remove_contact(NODES[number])
    return table


NUMBERS = st.sets(st.integers(0, len(NODES) - 1))


@given(NUMBERS, NUMBERS, KEYS, st.integers(1, 45))
def test_the_nearest_are_those_that_sorting_all_by_distance_gives(
    numbers: set[int], gone: set[int], key: bytes, count: int
) -> None:
    """Whoever is named by the key is not among them; a node that left the table neither."""
    table = table_of(numbers, gone)
    place = int.from_bytes(key)
    plain = sorted(table.contacts(), key=lambda node: int(node.long_id) ^ place)
    dids: list[Did] = [node.did for node in plain if node.long_id != place][:count]
    assert [node.did for node in table.nearest(key, count)] == dids


@given(NUMBERS, NUMBERS, KEYS, st.integers(1, 45))
def test_who_is_nearer_than_we_are_is_counted_up_to_a_bound(
    numbers: set[int], gone: set[int], key: bytes, most: int
) -> None:
    """As many as there are, or the bound."""
    table = table_of(numbers, gone)
    place, own = int.from_bytes(key), int(OWN.long_id)
    plain = sum(int(node.long_id) ^ place < own ^ place for node in table.contacts())
    assert table.nearer_than_us(key, most) == min(most, plain)


@given(NUMBERS, KEYS, st.integers(1, 5), st.integers(0, 255))
def test_outside_of_our_own_places_others_are_nearer(numbers: set[int], key: bytes, most: int, bit: int) -> None:
    """Whoever hands records over looks at no other ones: three nearer holders do that."""
    table = table_of(numbers, set())
    first, last = table.ours(most)
    near = (int(OWN.long_id) ^ 1 << bit).to_bytes(32)
    for place in (key, near):
        assert first <= place <= last or table.nearer_than_us(place, most) == most
    assert first <= OWN.id <= last
