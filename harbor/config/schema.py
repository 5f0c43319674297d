"""The JSON Schema of harbor.yml, for editors and other tools: ``python -m harbor.config.schema FILE`` writes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from harbor.config.settings import Config


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the whole file."""
    body = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | body | {"title": "Harbor configuration"}


def schema_text() -> str:
    """The same as the text of docs/harbor.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text())
