"""How every script parses its arguments: rules and parser.

Each option is declared with its rule. `Parser` collects all problems (values out of range, unknown flags, options that
conflict) and reports them at once, before any work, with exit code 1; argparse itself would stop at the first and exit
with 2, which means something else here.
"""

import argparse
import difflib
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from helpers.about import VERSION
from helpers.errors import Category, PipelineError, Problem

MAX_WEIGHT = 100  # of words
MAX_NUMBER = 10**9  # nothing here is larger, and libraries fail on numbers of more than 64 bits

Rule = Callable[[str, str], Any]  # (flag, text) -> value, or raises BrokenRule
Args = TypeVar("Args", bound=argparse.Namespace)


class BrokenRule(Exception):
    """A value breaks its option's rule."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


# ---------------------------------------------------------------------------------------------------------- rules


def number(
    kind: type[int] | type[float],
    minimum: float,
    maximum: float = math.inf,
    *,
    suggest: float,
    off: bool = False,
    most: float = MAX_NUMBER,
) -> Rule:
    """A number from `minimum` to `maximum`; also 0 if that turns something `off`.

    Without a documented `maximum`, `most` is the practical limit.
    """
    allowed = ("0 or " if off else "") + (f">= {minimum:g}" if maximum == math.inf else f"{minimum:g} to {maximum:g}")

    def rule(flag: str, text: str) -> float:
        advice = f"use {flag} {suggest:g}" + (" or higher" if maximum == math.inf and not off else "")
        try:
            value = kind(text)
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise _broken(f"{flag} must be {noun} {allowed}", flag, text, advice) from None
        if value > most and maximum == math.inf:
            raise _broken(f"{flag} must be at most {most:,}", flag, text, f"use {flag} {suggest:g}")
        if not (minimum <= value <= maximum or (off and value == 0)):
            raise _broken(f"{flag} must be {allowed}", flag, text, advice)
        return value

    return rule


def number_or_range(minimum: int, maximum: int, *, suggest: str) -> Rule:
    """N or MIN-MAX, whole numbers from `minimum` to `maximum`, as (least, most)."""

    def rule(flag: str, text: str) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text, re.ASCII)
        least_most = (int(found[1]), int(found[2] or found[1])) if found else None
        if least_most is None or not minimum <= least_most[0] <= least_most[1] <= maximum:
            message = f"{flag} must be N or MIN-MAX, {minimum} to {maximum}, with MIN <= MAX"
            raise _broken(message, flag, text, f"use {flag} {suggest}")
        return least_most

    return rule


def numbers(kind: type[int] | type[float], minimum: float, maximum: float, *, suggest: str) -> Rule:
    """Comma-separated numbers from `minimum` to `maximum`, sorted."""
    each = number(kind, minimum, maximum, suggest=minimum)

    def rule(flag: str, text: str) -> tuple[float, ...]:
        try:
            return tuple(sorted({each(flag, one) for one in text.split(",")}))
        except BrokenRule:
            message = f"{flag} must be comma-separated numbers, {minimum:g} to {maximum:g}"
            raise _broken(message, flag, text, f"use {flag} {suggest}") from None

    return rule


def one_of(choices: Sequence[str], *, suggest: str) -> Rule:
    """One of a few words; `suggest` is proposed for a word that resembles none of them."""

    def rule(flag: str, text: str) -> str:
        if text not in choices:
            best = [*difflib.get_close_matches(text.lower(), choices, n=1), suggest][0]
            raise _broken(f"{flag} must be one of {', '.join(choices)}", flag, text, f"use {flag} {best}")
        return text

    return rule


def codes(choices: Sequence[str] | None) -> Rule:
    """Comma-separated codes, sorted, in lower case; from `choices`, if given."""
    allowed = one_of(choices, suggest=choices[0]) if choices else None

    def rule(flag: str, text: str) -> tuple[str, ...]:
        found = tuple(sorted({code.strip().lower() for code in text.split(",")}))
        for code in found:
            if allowed:
                allowed(flag, code)
            elif not re.fullmatch(r"[a-z0-9_]{1,40}", code):
                raise _broken(f"{flag} must be comma-separated codes", flag, text, f"use {flag} abc,def")
        return found

    return rule


def path(flag: str, text: str) -> Path:
    """A path; `~` is the home directory."""
    if not text or "\0" in text:
        raise _broken(f"{flag} must name a path", flag, text, f"give {flag} a path")
    _utf8(flag, text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~nobody
        raise _broken(f"{flag} must name a path", flag, text, f"write the path out: {error}") from None


def file_name(flag: str, text: str) -> str:
    """A file name, of any bytes; not empty."""
    if not text.strip():
        raise _broken(f"{flag} must not be empty", flag, text, f"leave out {flag} to use its default")
    return text


def words(flag: str, text: str) -> str:
    """Non-empty text."""
    return file_name(flag, _utf8(flag, text))


def weighted_words(flag: str, text: str) -> tuple[str, float]:
    """WORDS or WORDS:WEIGHT; what follows a colon and is no number belongs to the words."""
    before, _, after = text.rpartition(":")
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", after.strip(), re.ASCII) or not before:
        return words(flag, text).strip(), 1.0
    if abs(float(after)) > MAX_WEIGHT:
        raise _broken(f"{flag} must have a weight from -{MAX_WEIGHT} to {MAX_WEIGHT}", flag, text, f"use {before}:1")
    return words(flag, before).strip(), float(after)


def _utf8(flag: str, text: str) -> str:
    """The bytes that were typed as UTF-8, whatever the locale: text for JSON and for C++ libraries."""
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        raise _broken(f"{flag} must be UTF-8", flag, text, "rename the file or folder, or link to it") from None


def web_address(flag: str, text: str) -> str:
    """An http(s) address without a password; a trailing slash is dropped."""
    try:
        address = urlsplit(text)
        usable = address.scheme in ("http", "https") and bool(address.hostname) and (address.port or 1) > 0
        usable = usable and text.isprintable() and " " not in text  # bytes that are not UTF-8 are not printable
    except ValueError:
        usable = False
    if not usable:
        raise _broken(f"{flag} must be an http(s) address", flag, text, f"use {flag} https://api.scryfall.com")
    if "@" in address.netloc:
        raise _broken(
            f"{flag} must have no user name or password: messages and reports would show them",
            flag,
            address._replace(netloc=address.netloc.rpartition("@")[2]).geturl(),
            "use the address without what comes before @; it was never sent",
        )
    return text.rstrip("/")


def header_value(flag: str, text: str) -> str:
    """Text that is valid in an HTTP header."""
    if text != text.strip() or not text or not text.isascii() or not text.isprintable():
        raise _broken(
            f"{flag} must be printable ASCII, not empty, without leading or trailing spaces",
            flag,
            text,
            f'name your tool and a contact: {flag} "MyTool/1.0 (me@example.org)"',
        )
    return text


def _dest(flag: str) -> str:
    """The attribute that has the flag's value."""
    return flag.lstrip("-").replace("-", "_")


def _broken(message: str, flag: str, text: str, suggestion: str) -> BrokenRule:
    return BrokenRule(Problem(message, f"received {flag} {text}".rstrip(), suggestion))


# --------------------------------------------------------------------------------------------------------- parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or isinstance(action.default, bool | list | tuple):
            return action.help  # `default: True` or an empty list says nothing useful
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports all problems at once and raises PipelineError instead of exiting."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=_HelpFormatter, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
        self._group: argparse._ActionsContainer = self
        self._problems: list[Problem] = []
        self._broken: set[str] = set()
        self._required: list[str] = []
        self._positional: tuple[str, Callable[[str], Any]] | None = None
        self._cross_rules: list[tuple[tuple[str, ...], Callable[[Any], Problem | None]]] = []

    def section(self, title: str) -> None:
        """List what is declared from now on under `title` in --help."""
        self._group = self.add_argument_group(title)

    def flag(self, flag: str, help: str) -> None:
        """Declare a `flag` without a value."""
        self._group.add_argument(flag, action="store_true", help=help)

    def switch(self, flag: str, help: str) -> None:
        """Declare a `flag` that is on unless its --no- form is given."""
        self._group.add_argument(flag, action=argparse.BooleanOptionalAction, default=True, help=help)

    def option(self, flag: str, rule: Rule, default: Any, metavar: str, help: str, bare: Any = None) -> None:
        """Declare `flag` with the rule for its value; `bare` is what it means without one, if it may stand alone."""
        more = {} if bare is None else {"nargs": "?", "const": bare}
        self._group.add_argument(
            flag, type=self._checked(flag, rule), default=default, help=help, metavar=metavar, **more
        )

    def required_option(self, flag: str, rule: Rule, metavar: str, help: str) -> None:
        """Declare a required `flag` with the rule for its value."""
        self.option(flag, rule, None, metavar, f"{help} (required)")
        self._required.append(flag)
        name = _dest(flag)
        self.cross_rule(
            (name,),
            lambda args: (
                None
                if getattr(args, name) is not None
                else Problem(f"{flag} is required", f"received no {flag}", f"add {flag} {metavar}")
            ),
        )

    def repeated_option(self, flag: str, rule: Rule, metavar: str, help: str) -> None:
        """Declare `flag` with the rule for its value; it may be given several times."""
        self._group.add_argument(
            flag, type=self._checked(flag, rule), action="append", default=[], help=help, metavar=metavar
        )

    def words_or_more(self, name: str, rule: Rule, help: str, instead: Sequence[str] = ()) -> None:
        """Declare a positional argument that takes one or more values; none if a flag of `instead` is given."""
        self._positional = (name.lower(), self._checked(name, rule))
        self.add_argument(name.lower(), metavar=name, nargs="*", type=self._positional[1], help=help)
        advice = f"name at least one: {self.prog} {name}" + (f", or use {' or '.join(instead)}" if instead else "")
        names = (name.lower(), *map(_dest, instead))
        self.cross_rule(
            names,
            lambda args: (
                None
                if any(getattr(args, given) for given in names)
                else Problem(f"{name} is required", f"received no {name}", advice)
            ),
        )

    def format_usage(self) -> str:
        """The usage line, required options outside brackets: argparse must not enforce them itself, see `parse`."""
        return self._without_brackets(super().format_usage())

    def format_help(self) -> str:
        """The help, likewise."""
        return self._without_brackets(super().format_help())

    def _without_brackets(self, text: str) -> str:
        for flag in self._required:
            text = re.sub(rf"\[({flag} \S+)\]", r"\1", text, count=1)
        return text

    def cross_rule(self, names: Sequence[str], broken: Callable[[Any], Problem | None]) -> None:
        """Declare a rule across options; it is checked only if each of `names` is valid by itself."""
        self._cross_rules.append((tuple(names), broken))

    def parse(self, argv: Sequence[str] | None, namespace: Args) -> Args:
        """Read `argv` (None: the command line) into `namespace`; PipelineError lists every problem.

        `given` has the names of the flags that are on the command line, which defaults are not.
        """
        given = list(sys.argv[1:] if argv is None else argv)
        dashes = given.index("--") if "--" in given else len(given)
        args, unknown = self.parse_known_intermixed_args(given[:dashes], namespace)
        unknown += self._after_double_dash(args, given[dashes + 1 :])
        flags = (text.partition("=")[0] for text in given[:dashes] if text.startswith("--"))
        args.given = frozenset(_dest(flag.replace("--no-", "--", 1)) for flag in flags)
        self._problems += [self._unknown(text) for text in unknown if text.startswith("-")]
        if unknown and not unknown[0].startswith("-"):
            self._problems.append(self._unknown(unknown[0]))
        for names, broken in self._cross_rules:
            problem = None if self._broken.intersection(names) else broken(args)
            if problem:
                self._problems.append(problem)
        if self._problems:
            raise PipelineError(Category.INVALID_ARGUMENTS, self._problems)
        return args

    def _after_double_dash(self, args: argparse.Namespace, words: list[str]) -> list[str]:
        """Give what follows `--` to the positional argument, which argparse's intermixed parsing does not do."""
        if self._positional is None:
            return words
        name, convert = self._positional
        setattr(args, name, [*getattr(args, name), *map(convert, words)])
        return []

    def error(self, message: str) -> NoReturn:
        """Report what argparse itself can't parse (a flag without its value)."""
        problem = Problem(message, f"received {self.prog} {' '.join(sys.argv[1:])}", f"see {self.prog} --help")
        raise PipelineError(Category.INVALID_ARGUMENTS, [*self._problems, problem])

    def _checked(self, flag: str, rule: Rule) -> Callable[[str], Any]:
        def convert(text: str) -> Any:
            try:
                return rule(flag, text)
            except BrokenRule as broken:
                if broken.problem not in self._problems:  # argparse may convert the same text twice
                    self._problems.append(broken.problem)
                self._broken.add(_dest(flag).lower())
                return None

        return convert

    def _unknown(self, text: str) -> Problem:
        flag = text.partition("=")[0]
        near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
        advice = f"did you mean {near[0]}? " if near else ""
        return Problem(f"unknown argument {flag}", f"received {text}", f"{advice}see {self.prog} --help")
