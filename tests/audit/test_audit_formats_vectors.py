"""The formats write what `vectors/formats.json` says: a difference is a change that readers elsewhere would notice."""

import json

import pytest
from audit_format_vectors import RECORDS, vectors, written
from audit_records import record_of
from audit_vectors import load

from appliance.audit.formats.entry import restored, visible

VECTORS = load("formats")


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda vector: str(vector["record"]["seq"]))
def test_records_are_written_as_before(vector):
    assert written(record_of(**vector["record"])) == vector["written"]


@pytest.mark.parametrize("vector", VECTORS["texts"], ids=lambda vector: ascii(vector["text"][:20]))
def test_texts_are_written_as_before_and_come_back(vector):
    assert visible(vector["text"]) == vector["visible"]
    assert restored(vector["visible"]) == vector["text"]


def test_the_file_is_what_its_maker_makes():
    assert json.loads(json.dumps(vectors())) == VECTORS
    assert len(VECTORS["records"]) == len(RECORDS) >= 5
