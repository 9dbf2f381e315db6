"""Which rows a search may answer with: those whose metadata passes conditions such as `set=lea,set=leb,lang=en`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from helpers.cards.faces import CardFace, Records
from helpers.cli_validation import BrokenRule
from helpers.errors import BAD_JSON, Category, PipelineError, Problem

FIELDS = CardFace.__struct_fields__
PARTS = ("type_line", "oracle_text")  # of which a value may be a part
BEGINNINGS = ("released_at",)  # of which a value may be the beginning: a year, a month


@dataclass(frozen=True)
class Condition:
    """A field and its values, in lower case, of which one must fit."""

    field: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.field}={'|'.join(self.values)}"

    def fits(self, found: object) -> bool:
        """Whether a row passes that has `found` in this field."""
        if isinstance(found, (list, tuple)):
            return any(str(one).casefold() in self.values for one in found) or (not found and "" in self.values)
        text = "" if found is None else str(found).casefold()
        if self.field in PARTS:
            return any(value in text if value else not text for value in self.values)
        if self.field in BEGINNINGS:
            return any(text.startswith(value) if value else not text for value in self.values)
        return text in self.values


@dataclass(frozen=True)
class Where:
    """Conditions that a row must pass, all of them."""

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str) -> Where:
        """FIELD=VALUE[,FIELD=VALUE...]; a comma that no FIELD= follows belongs to the value, as in names.

        Several values of one field, also as FIELD=VALUE|VALUE, are alternatives. PipelineError (Invalid Arguments) if
        there is no such field.
        """
        return _merged(map(_condition, re.split(r",(?=\s*\w+\s*=)", text)))

    def __str__(self) -> str:
        return ",".join(map(str, self.conditions))

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[object]:
        """Reads only the fields that matter: half a million lines are read in a second or two."""
        known = {field.name: (field.name, field.type, None) for field in msgspec.structs.fields(CardFace)}
        fields = [known[condition.field] for condition in self.conditions]
        return msgspec.json.Decoder(msgspec.defstruct("Some", fields, gc=False))

    def _read(self, records: Records, row: int) -> object:
        try:
            return self._decoder.decode(records.line(row))
        except BAD_JSON:
            return records[row]  # PipelineError: it is no metadata

    def rows(self, records: Records) -> NDArray[np.int64]:
        """The numbers of the rows that pass; PipelineError (Invalid Arguments) if none does."""
        passed = np.zeros((len(self.conditions), len(records)), bool)
        seen: list[dict[object, bool]] = [{} for _ in self.conditions]  # most rows share their set, language, date
        for row in range(len(records)):
            some = self._read(records, row)
            for number, condition in enumerate(self.conditions):
                found = getattr(some, condition.field)
                key = tuple(found) if isinstance(found, list) else found
                if key not in seen[number]:
                    seen[number][key] = condition.fits(found)
                passed[number, row] = seen[number][key]
        rows = np.flatnonzero(passed.all(axis=0))
        if not len(rows):
            raise self._nothing(passed, seen)
        return rows

    def _nothing(self, passed: NDArray[np.bool_], seen: Sequence[dict[object, bool]]) -> PipelineError:
        counts = zip(self.conditions, passed.sum(axis=1).tolist(), strict=True)
        lacking = [place for place, some in enumerate(passed) if not some.any()]
        advice = _near(self.conditions[lacking[0]], seen[lacking[0]]) if lacking else "leave out a condition"
        return PipelineError.of(
            Category.INVALID_ARGUMENTS,
            f"no row of the index passes --where {self}",
            details=f"{passed.shape[1]:,} rows; " + ", ".join(f"{condition}: {count:,}" for condition, count in counts),
            suggestion=advice,
        )


def where(flag: str, text: str) -> Where:
    """Conditions, as a rule of the command line."""
    try:
        return Where.parse(text)
    except PipelineError as error:
        raise BrokenRule(error.problems[0]) from None


def all_of(wheres: Iterable[Where]) -> Where | None:
    """The conditions of all of them, as if given in one; None without any."""
    found = _merged(condition for one in wheres for condition in one.conditions)
    return found if found.conditions else None


def _merged(conditions: Iterable[Condition]) -> Where:
    """Several conditions on one field are one, of all their values."""
    values: dict[str, tuple[str, ...]] = {}
    for condition in conditions:
        values[condition.field] = values.get(condition.field, ()) + condition.values
    return Where(tuple(Condition(field, found) for field, found in values.items()))


def _condition(text: str) -> Condition:
    name, equals, values = text.partition("=")
    field = name.strip().lower()
    if not equals or field not in FIELDS:
        near = difflib.get_close_matches(field, FIELDS, n=1)
        hint = f"did you mean {near[0]}=? " if near else ""
        problem = Problem(
            f"--where must use a field that there is, not {name.strip()}" if equals else "--where must be FIELD=VALUE",
            f"received --where {text.strip()}",
            f"{hint}the fields are {', '.join(FIELDS)}",
        )
        raise PipelineError(Category.INVALID_ARGUMENTS, [problem])
    return Condition(field, tuple(value.strip().casefold() for value in values.split("|")))


def _near(condition: Condition, seen: dict[object, bool]) -> str:
    """Values that there are, the nearest first."""
    there = {str(one) for found in seen for one in (found if isinstance(found, tuple) else [found]) if one is not None}
    if not there:
        return f"leave out {condition.field}: no face of this index has it (an older index must be built again)"
    by_key = {text.casefold(): text for text in sorted(there)}
    if condition.field in PARTS:
        return "use fewer or other words"
    near = difflib.get_close_matches(condition.values[0], by_key, n=3, cutoff=0.5) or [*by_key][:3]
    return f"use a value that is there, such as {', '.join(f'{condition.field}={by_key[key]}' for key in near)}"
