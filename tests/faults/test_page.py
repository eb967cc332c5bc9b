"""The page says what is declared, and the declaration is whole."""

import re

import pytest

from tests.faults import page
from tests.faults.expected import OK, READINGS, Fault, Situation, expected, faults_in


def test_the_page_says_what_is_declared() -> None:
    text = page.PAGE.read_text()
    assert text == page.written(text, page.read(text)), "python -m tests.faults --write"


def test_every_cell_of_the_page_was_measured() -> None:
    times = page.read(page.PAGE.read_text())
    assert set(times) == {(situation, fault) for situation in Situation for fault in faults_in(situation)}
    assert all(re.fullmatch(r"\d+\.\d s \| \d+\.\d s", measured) for measured in times.values())


def test_a_page_that_differs_from_the_declaration_is_found() -> None:
    text = page.PAGE.read_text()
    changed = text.replace("UNAVAILABLE `KMS_THROTTLED`", "UNAVAILABLE `KMS_UNAVAILABLE`", 1)
    assert changed != text
    assert page.written(changed, page.read(changed)) == text


def test_every_fault_has_a_reading() -> None:
    assert set(READINGS) == set(Fault)


@pytest.mark.parametrize("situation", Situation)
def test_no_cell_is_declared_without_what_brings_it_back(situation: Situation) -> None:
    for fault in faults_in(situation):
        cell = expected(situation, fault)
        assert cell.back
        assert (cell.until is not None) == (len(cell.encrypt) > 1)
        assert cell.encrypt[0] == OK or len(cell.encrypt) == 1
