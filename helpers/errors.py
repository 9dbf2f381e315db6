"""The one exception type for failures that are known: its text is written for the user.

Helpers raise it; `cli_validation.run` is the only place that prints it and turns it into an exit code.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import msgspec

Kind = TypeVar("Kind", bound="PipelineError")

EXIT_OK = 0
EXIT_ERROR = 1

# What msgspec raises on bytes that are not the JSON asked for
BAD_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says where a disk takes no more


class Category(Enum):
    """What kind of thing went wrong; the words after "ERROR:"."""

    INVALID_ARGUMENTS = "Invalid Arguments"
    CONFIGURATION = "Configuration Error"
    NETWORK = "Network Error"
    VALIDATION = "Validation Error"
    BUILD = "Build Error"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, the value that was met, what to do about it."""

    message: str
    details: str
    suggestion: str


def first_line(error: BaseException) -> str:
    """What `error` says, in a line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class PipelineError(Exception):
    """A known failure: one or more problems of one category, and the exit code that they mean."""

    def __init__(self, category: Category, problems: Sequence[Problem], exit_code: int = EXIT_ERROR) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.category = category
        self.problems = tuple(problems)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type["PipelineError"], tuple[Category, tuple[Problem, ...], int]]:
        """What another process needs to raise it here: an exception would be made of its message alone."""
        return type(self), (self.category, self.problems, self.exit_code)

    @classmethod
    def of(
        cls: type[Kind],
        category: Category,
        message: str,
        *,
        details: str,
        suggestion: str,
        exit_code: int = EXIT_ERROR,
    ) -> Kind:
        """The usual case: a single problem."""
        return cls(category, [Problem(message, details, suggestion)], exit_code)

    def render(self) -> str:
        """The text the user reads, one block a problem."""
        return "\n".join(
            f"ERROR: {self.category.value}: {problem.message}\n"
            f"  Details: {problem.details}\n"
            f"  Suggestion: {problem.suggestion}"
            for problem in self.problems
        )


class DiskFull(PipelineError):
    """A disk takes no more (Configuration Error)."""
