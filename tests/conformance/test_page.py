"""The page says what the cases say, and every case has a right to be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.differences import REFERENCES, differences_of
from conformance.page import CHAPTERS, Case, all_cases, renewed

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "conformance.md"


def test_the_page_is_as_the_cases_are() -> None:
    assert PAGE.read_text() == renewed(PAGE.read_text()), "run: make pages"


def test_every_file_of_cases_is_a_chapter() -> None:
    files = {path.stem for path in HERE.glob("test_*.py")} - {Path(__file__).stem}
    assert files == set(CHAPTERS)


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.__name__)
def test_a_reference_passes_every_case(case: Case) -> None:
    assert set(REFERENCES) - set(differences_of(case))
