"""A daemon that is away for a moment is asked again; one that says no is not."""

import pytest

from common.errors import BadParams, DuxError, NeighbourDown
from common.rpc.patience import patiently


class Asked:
    """Fails so often, then answers."""

    def __init__(self, failures: int, error: DuxError) -> None:
        self.failures, self.error, self.count = failures, error, 0

    async def __call__(self) -> int:
        self.count += 1
        if self.count <= self.failures:
            raise self.error
        return self.count


AWAY = NeighbourDown(daemon="escrowd", detail="off")


@pytest.mark.parametrize(("failures", "answered"), [(0, 1), (2, 3), (3, 4)])
async def test_the_first_answer_counts(failures: int, answered: int) -> None:
    """Also that of the last try, after all the pauses."""
    assert await patiently(Asked(failures, AWAY), tries=3, pause_s=0) == answered


async def test_there_is_an_end_to_patience_and_none_for_a_refusal() -> None:
    """Who stays away is told on, after the tries and one more; a refusal at once."""
    away, refused = Asked(9, AWAY), Asked(9, BadParams(detail="no"))
    with pytest.raises(NeighbourDown):
        await patiently(away, tries=3, pause_s=0)
    with pytest.raises(BadParams):
        await patiently(refused, tries=3, pause_s=0)
    assert (away.count, refused.count) == (4, 1)
