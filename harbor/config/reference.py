"""The configuration reference, made from the models: ``python -m harbor.config.reference FILE`` writes the page."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from harbor.config.schema import schema

_INTRODUCTION: Final = """\
# Configuration

<!-- Made by `make pages` from harbor/config/settings.py; change the descriptions there. -->

Harbor reads one YAML file, the first of

1. the file named by `--config`,
2. the file named by `$HARBOR_CONFIG`,
3. `./config/harbor.yml`,
4. `/etc/harbor/harbor.yml`,

and runs on the defaults below if there is none. Every key is optional; a key without a value keeps its default.
`harbor check-config` reports every fault at once, each with line, column and what would work:

```text
harbor.yml:3:11: ports.ranges[0]: '30000..32767' is not a range; write it like 30000-32767
harbor.yml:9:3: log.levle: no such key; did you mean level?
```

The file is plain YAML: tags, anchors, aliases, merge keys and a key that stands twice are refused, and so is more than
1 MiB. A word is a number, `true`, `false` or `null` only where JSON would write it so; `no` and `010` are text.
Timeouts are seconds. Secrets are never shown again, neither in dumps nor in error messages.

Editors that know JSON Schema complete and check the file with {download}`harbor.schema.json <../harbor.schema.json>`.
"""

_KINDS: Final = {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false"}


def page() -> str:
    """The text of docs/reference/configuration.md."""
    whole = schema()
    sections = {name: _resolved(key, whole) for name, key in whole["properties"].items()}
    parts = [_INTRODUCTION, "## Top level\n", *_table({n: s for n, s in sections.items() if "properties" not in s}, "")]
    for name, section in sections.items():
        if "properties" in section:
            parts += [f"\n## {name}\n", f"{section['description']}\n", *_table(section["properties"], f"{name}.")]
    return "\n".join(parts) + "\n"


def _resolved(key: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key with its reference, if any, followed."""
    places = [key, *key.get("anyOf", ())]
    pointer = next((place["$ref"] for place in places if "$ref" in place), None)
    return key if pointer is None else whole["$defs"][pointer.rpartition("/")[2]]


def _table(keys: dict[str, Any], prefix: str) -> Iterator[str]:
    yield "| key | value | default | what it is for |"
    yield "|---|---|---|---|"
    for name, key in keys.items():
        yield f"| `{prefix}{name}` | {_kind(key)} | {_default(key)} | {key['description']}{_examples(key)} |"


def _kind(key: dict[str, Any]) -> str:
    if "$ref" in key:
        key = _resolved(key, schema())
    if "enum" in key:
        return ", ".join(f"`{choice}`" for choice in key["enum"])
    if "anyOf" in key:
        return _kind(next(choice for choice in key["anyOf"] if choice["type"] != "null"))
    if key["type"] == "array":
        return f"list of {_kind(key['items'])}"
    if key["type"] == "object":
        return f"{{{', '.join(key['properties'])}}}"
    if isinstance(key["type"], list):
        return " or ".join(_KINDS[kind] for kind in key["type"])
    bounds = f", {key['minimum']:g} to {key['maximum']:.12g}" if "minimum" in key else ""
    return _KINDS[key["type"]] + bounds


def _default(key: dict[str, Any]) -> str:
    if "default" not in key:
        return "required"
    return "" if key["default"] is None else f"`{_yaml(key['default'])}`"


def _examples(key: dict[str, Any]) -> str:
    shown = [f"`{_yaml(example)}`" for example in key.get("examples", ())]
    return f" For example {' or '.join(shown)}." if shown else ""


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(json.dumps(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value) if value == "" else str(value)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
