"""What the scripts write fits the schemas in docs/schemas/, which name every field; so do the samples in the docs."""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from referencing import Registry, Resource

from helpers.artifacts import IndexFolder
from helpers.cards.faces import CardFace
from helpers.download.validate import Invalid, ValidationReport
from helpers.evaluate.findings import Findings
from helpers.index.browser_format import write_browser_files
from helpers.index.manifest import Manifest
from helpers.index.store import StoredIndex
from helpers.recognise.query import Answer, Card, Match
from helpers.recognise.showing import Asked, Searched, faces_line, json_line
from tests.conftest import ROOT, Built

SCHEMAS = {path.name: json.loads(path.read_text()) for path in (ROOT / "docs" / "schemas").glob("*.json")}
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
SAMPLES = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]


def closed(schema: Any) -> Any:
    """The schema, taking no field that it does not name: what is written must be documented."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    return parts | ({"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {})


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    registry = Registry().with_resources(
        (name, Resource.from_contents(closed(schema))) for name, schema in SCHEMAS.items()
    )
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    return jsonschema.Draft202012Validator(closed(SCHEMAS[name]), registry=registry)


def check(name: str, found: Any) -> None:
    validator(name).validate(found)


def test_the_files_of_a_build_fit(built: Built, tmp_path: Path) -> None:
    check("manifest.json", built.manifest())
    for record in built.records():
        check("metadata-line.json", record)
    check("download-report.json", json.loads((built.cache / "download_report.json").read_text()))
    write_browser_files(StoredIndex(IndexFolder(built.index)), IndexFolder(tmp_path))
    check("browser-meta.json", json.loads((tmp_path / "meta.json").read_text()))
    check("browser-bundle.json", json.loads((tmp_path / "bundle.json").read_text()))


def test_the_report_on_a_cache_fits(tmp_path: Path) -> None:
    report = ValidationReport(tmp_path, 2, [Invalid(tmp_path / "a.jpg", "it is empty", None)], [tmp_path / "b.jpg"])
    report.write(tmp_path / "report.json")
    check("cache-report.json", json.loads((tmp_path / "report.json").read_text()))


def test_every_answer_fits(built: Built) -> None:
    face = StoredIndex(IndexFolder(built.index)).records()[0]
    match, searched = Match(1, 0.5, face), Searched(13, "hnsw", 64)
    corners = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    whole = Card(None, 0, (match,), ((match,),), None, None, None)
    answer = Answer("a.jpg", (Card(corners, 90, (match,), ((match,),), 0.5, 0.6, True), whole))
    unread = Answer("b.jpg", error="no such file")
    vote = Answer("", (whole,), left_out=(unread,))
    lines = [
        json_line(Asked.picture("a.jpg"), answer, searched),
        json_line(Asked.picture("b.jpg"), unread, searched),
        json_line(Asked.vote(["a.jpg", "b.jpg"]), vote, searched),
        json_line(Asked.words({"a dragon": 1.0}), answer, searched),
        faces_line("Island", [(face, (match,))]),
    ]
    for line in lines:
        check("query-line.json", json.loads(line))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_field_that_is_missing_or_unknown_is_found(name: str) -> None:
    """The check itself: without it a schema could name nothing and pass."""
    assert not validator(name).is_valid({})
    assert not validator(name).is_valid({"unknown": 1})


def test_the_samples_fit() -> None:
    query, failure, report = SAMPLES
    check("query-line.json", query)
    (failures,) = (part for part in [SCHEMAS["download-report.json"]["properties"]["failures"]["items"]])
    jsonschema.validate(failure, failures)
    check("cache-report.json", report)


@pytest.mark.parametrize(("heading", "fields"), [("### Metadata", CardFace.__struct_fields__)])
def test_the_table_names_every_field(heading: str, fields: Sequence[str]) -> None:
    rows = re.findall(r"^\| (`.*?`) \|", PAGE.partition(heading)[2].partition("\n## ")[0], re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(fields)


def without_descriptions(schema: Any) -> Any:
    if isinstance(schema, list):
        return [without_descriptions(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: part for name, part in schema.items() if not (name == "description" and isinstance(part, str))}
    return {name: without_descriptions(part) for name, part in kept.items()}


def test_the_schema_of_an_evaluation_is_what_its_structs_say() -> None:
    found = {name: part for name, part in SCHEMAS["evaluation.json"].items() if name in ("$ref", "$defs")}
    assert without_descriptions(found) == without_descriptions(json.loads(json.dumps(msgspec.json.schema(Findings))))


def test_the_manifest_s_schema_names_what_its_record_has() -> None:
    assert list(SCHEMAS["manifest.json"]["properties"]) == list(Manifest.__struct_fields__)
