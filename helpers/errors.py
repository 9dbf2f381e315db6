"""The one exception type for known failures, whose text is written for the user, and every exit code.

Helpers raise it; `ending.run` is the only place that prints it and turns it into an exit code.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TypeVar

try:
    from msgspec import MsgspecError
except ModuleNotFoundError:  # doctor.py says what is wrong, where there is no environment yet, too
    MsgspecError = ValueError  # type: ignore[assignment, misc]

Kind = TypeVar("Kind", bound="PipelineError")

# What msgspec raises on bytes that are not the JSON asked for
BAD_JSON = (MsgspecError, UnicodeDecodeError, RecursionError)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says when a disk is full


class ExitCode(IntEnum):
    """Every exit code of every script. Names that share a number mean it in different scripts."""

    OK = 0
    ERROR = 1  # bad arguments, and every known failure without a code of its own
    INVALID = 1  # validate_cache.py: some pictures are invalid
    LACKING = 1  # doctor.py: something that a build needs is missing
    NOT_RECOGNISED = 1  # demo.py: too few cards were named
    NO_IMAGES = 2  # nothing was downloaded, too many failed, or there is nothing to embed
    UNANSWERED = 2  # query_index.py: some picture could not be answered
    NO_DIRECTORY = 2  # validate_cache.py, clear_cache.py: the cache does not exist
    NO_CACHE = 3  # build_embeddings.py: the cache does not exist
    INTERRUPTED = 130  # 128 + SIGINT, as in shells
    BROKEN_PIPE = 141  # 128 + SIGPIPE: `query_index.py … | head` is not a failure to report
    TERMINATED = 143  # 128 + SIGTERM


class Category(Enum):
    """The kind of failure; the words after "ERROR:"."""

    INVALID_ARGUMENTS = "Invalid Arguments"
    CONFIGURATION = "Configuration Error"
    NETWORK = "Network Error"
    VALIDATION = "Validation Error"
    BUILD = "Build Error"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, the value found, what to do about it."""

    message: str
    details: str
    suggestion: str


def first_line(error: BaseException) -> str:
    """The first line of the error's text, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class PipelineError(Exception):
    """A known failure: one or more problems of one category, and their exit code."""

    def __init__(self, category: Category, problems: Sequence[Problem], exit_code: int = ExitCode.ERROR) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.category = category
        self.problems = tuple(problems)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type["PipelineError"], tuple[Category, tuple[Problem, ...], int]]:
        """Let it be pickled to another process; by default, only the message would be passed on."""
        return type(self), (self.category, self.problems, self.exit_code)

    @classmethod
    def of(
        cls: type[Kind],
        category: Category,
        message: str,
        *,
        details: str,
        suggestion: str,
        exit_code: int = ExitCode.ERROR,
    ) -> Kind:
        """The usual case: a single problem."""
        return cls(category, [Problem(message, details, suggestion)], exit_code)

    def render(self) -> str:
        """The text the user reads, one block per problem."""
        return "\n".join(
            f"ERROR: {self.category.value}: {problem.message}\n"
            f"  Details: {problem.details}\n"
            f"  Suggestion: {problem.suggestion}"
            for problem in self.problems
        )


class DiskFull(PipelineError):
    """The disk is full (Configuration Error)."""
