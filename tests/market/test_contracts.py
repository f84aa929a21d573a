"""The contracts of registryd and stored: examples travel, codes and names are unique."""

from __future__ import annotations

import inspect

import pytest

from common.codec import Wire, from_json, json_bytes
from common.contracts import peer, peer_registry, peer_store, registry, store
from common.errors import DuxError
from common.rpc.method import Method, Namespace, PeerMethod, Topic, methods_in, unique

METHODS = [*methods_in(registry), *methods_in(store)]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_an_example_survives_json(method: Method[Wire, Wire]) -> None:
    """What a method's example says is what the other side reads."""
    params, result = method.example
    assert from_json(json_bytes(params), method.params) == params
    assert from_json(json_bytes(result), method.result) == result


def test_names_and_codes_are_unique() -> None:
    """No two methods or errors share a name or a code; codes lie in the daemon's block."""
    assert unique([method.name for method in METHODS])
    for module, block in ((registry, 5), (store, 6)):
        errors = [e for _, e in inspect.getmembers(module, inspect.isclass) if e.__module__ == module.__name__]
        codes = [e.code for e in errors if issubclass(e, DuxError)]
        assert codes
        assert unique([str(code) for code in codes])
        assert {code // 1000 for code in codes} == {block}


def test_what_goes_between_nodes_is_declared() -> None:
    """p2pd finds each of our peer methods, topics and namespaces in the table, with us as its owner."""
    for module, owner in ((peer_registry, "registryd"), (peer_store, "stored")):
        for found, kind in ((peer.peer_methods(), PeerMethod), (peer.topics(), Topic), (peer.namespaces(), Namespace)):
            own = [value for value in vars(module).values() if isinstance(value, kind)]
            assert own
            assert {found[value.name].owner for value in own} == {owner}
