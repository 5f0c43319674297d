"""What is published about the configuration says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harbor.config import Config, check, load
from harbor.config.reference import page
from harbor.config.schema import schema, schema_text

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "text"), [("docs/harbor.schema.json", schema_text), ("docs/reference/configuration.md", page)]
)
def test_a_generated_page_is_current(path: str, text: Any) -> None:
    assert (ROOT / path).read_text() == text(), f"{path} is out of date; run: make pages"


def test_the_schema_knows_every_key_and_refuses_others() -> None:
    published = json.loads(schema_text())
    assert list(published["properties"]) == list(Config.model_fields)
    for section in [published, *published["$defs"].values()]:
        if section["type"] == "object":
            assert section["additionalProperties"] is False
            assert all(key.get("description") or "$ref" in key for key in section["properties"].values())


def test_the_development_configuration_differs_from_the_defaults_only_where_it_says_so() -> None:
    config = load(ROOT / "config" / "harbor.yml", {})
    assert config.state_dir == Path(".harbor")
    assert config.backends.allow == (*Config().backends.allow, "127.0.0.0/8", "::1/128")
    same = config.model_copy(update={"state_dir": Config().state_dir, "backends": Config().backends})
    assert same == Config()
    assert check(config, local_port_range=(32768, 60999)) == []
    text = (ROOT / "config" / "harbor.yml").read_text()
    assert text.count("# DEVELOPMENT") == 2


def test_the_development_configuration_shows_every_key() -> None:
    text = (ROOT / "config" / "harbor.yml").read_text()
    shown = set(re.findall(r"^(?:#? *)(?:- )?(\w+):", text, re.MULTILINE))
    published = schema()
    sections = [published, *published["$defs"].values()]
    assert {key for section in sections for key in section.get("properties", ())} <= shown
