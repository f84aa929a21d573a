"""The OpenRPC document of a daemon, made from its contract values. Source: OpenRPC 1.2.6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from common import __version__
from common.codec import to_plain
from common.rpc.method import Method
from common.units import Florins


def _schema_hook(kind: type) -> dict[str, Any]:
    if kind is Florins:
        return {"type": "string", "pattern": "^(0|-?[1-9][0-9]{0,18})$", "description": "florins, 10^-8 FLOP"}
    raise NotImplementedError(kind)


def openrpc_document(daemon: str, methods: Sequence[Method[Any, Any]]) -> dict[str, Any]:
    """Every method with parameters, result, errors and a worked example."""
    ordered = sorted(methods, key=lambda method: method.name)
    kinds = [kind for method in ordered for kind in (method.params, method.result)]
    _, components = msgspec.json.schema_components(
        kinds, schema_hook=_schema_hook, ref_template="#/components/schemas/{name}"
    )
    return {
        "openrpc": "1.2.6",
        "info": {"title": f"dux-{daemon}", "version": __version__},
        "methods": [_method(method, components) for method in ordered],
        "components": {"schemas": components},
    }


def _method(method: Method[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    params_schema = components.get(method.params.__name__, {})
    required = set(params_schema.get("required", ()))
    properties = params_schema.get("properties", {})
    given, result = (to_plain(value) for value in method.example)
    return {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "by-name",
        "params": [{"name": n, "schema": s, "required": n in required} for n, s in properties.items()],
        "result": {
            "name": method.result.__name__,
            "schema": {"$ref": f"#/components/schemas/{method.result.__name__}"},
        },
        "errors": [{"code": error.code, "message": (error.__doc__ or "").strip()} for error in method.raises],
        "x-callers": list(method.callers),
        "x-once": method.once,
        "examples": [
            {
                "name": "example",
                "params": [{"name": n, "value": v} for n, v in given.items()],
                "result": {"name": "result", "value": result},
            }
        ],
    }
