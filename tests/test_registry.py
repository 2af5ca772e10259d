"""A registry keeps its order, refuses a second entry of one id, and helps whoever mistypes a name."""

from dataclasses import dataclass

import pytest

from tumorbench_utils.registry import Registry, UnknownNameError


@dataclass(frozen=True)
class Scanner:
    id: str
    rows: int = 16


@pytest.fixture
def scanners():
    return Registry("scanner", (Scanner("pitch"), Scanner("axial"), Scanner("helical")))


def test_entries_come_by_name_and_in_their_order(scanners):
    assert [entry.id for entry in scanners] == ["pitch", "axial", "helical"]
    assert len(scanners) == 3
    assert scanners.get("axial") == Scanner("axial")
    assert "axial" in scanners
    assert "Axial" not in scanners


def test_new_entry_is_returned_and_comes_last(scanners):
    entry = Scanner("cone_beam", 256)
    assert scanners.register(entry) is entry
    assert scanners.get("cone_beam") is entry
    assert [each.id for each in scanners][-1] == "cone_beam"


def test_second_entry_of_one_id_is_refused_and_the_first_stays(scanners):
    with pytest.raises(ValueError, match="scanner 'axial' is registered already"):
        scanners.register(Scanner("axial", 64))
    assert scanners.get("axial").rows == 16
    with pytest.raises(ValueError, match="scanner 'a' is registered already"):
        Registry("scanner", (Scanner("a"), Scanner("a")))


def test_mistyped_name_gets_the_nearest_and_all(scanners):
    with pytest.raises(UnknownNameError) as caught:
        scanners.get("helicel")
    expected = "unknown scanner 'helicel'. Did you mean 'helical'? Known: pitch, axial, helical"
    assert str(caught.value) == expected


def test_name_unlike_any_gets_all_without_a_guess(scanners):
    with pytest.raises(UnknownNameError) as caught:
        scanners.get("ultrasound")
    assert str(caught.value) == "unknown scanner 'ultrasound'. Known: pitch, axial, helical"


def test_name_that_is_no_text_is_unknown(scanners):
    with pytest.raises(UnknownNameError, match="unknown scanner '3'"):
        scanners.get(3)


def test_unknown_name_is_a_lookup_error_but_no_key_error():
    assert issubclass(UnknownNameError, LookupError)
    assert not issubclass(UnknownNameError, KeyError)  # which would quote its message


def test_registries_do_not_share_entries(scanners):
    assert len(Registry("scanner")) == 0
    assert list(Registry("scanner", (Scanner("axial"),))) == [Scanner("axial")]
