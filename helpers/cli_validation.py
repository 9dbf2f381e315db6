"""How every script reads its arguments and how it ends.

An option is declared together with its rule. `Parser` collects whatever is broken (values out of range, unknown flags,
rules between options) and reports it all at once, before any work, with exit code 1; argparse itself would stop at
the first and exit with 2, which means something else here.
"""

import argparse
import difflib
import io
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from helpers.about import DEFAULT_USER_AGENT, VERSION
from helpers.cards.faces import GAMES, IMAGE_KEYS, LIST_KINDS, Filters
from helpers.errors import EXIT_ERROR, NO_SPACE, Category, PipelineError, Problem
from helpers.talk import say, tell

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_TERMINATED = 143  # 128 + SIGTERM
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: `query_index.py … | head` is no failure worth words

# What a download is done with unless flags say otherwise; a build that has to fetch its list uses the same.
DEFAULT_CONNECT_TIMEOUT_SECONDS = 5.0
DEFAULT_READ_TIMEOUT_SECONDS = 30.0
DEFAULT_MAX_RETRIES = 5

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
LARGEST_NUMBER = 10**9  # nothing here is larger, and libraries below stumble over what needs more than 64 bits

Rule = Callable[[str, str], Any]  # (flag, text) -> value, or raises BrokenRule
Args = TypeVar("Args", bound=argparse.Namespace)


class BrokenRule(Exception):
    """A value does not obey its option's rule."""

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
    most: float = LARGEST_NUMBER,
) -> Rule:
    """A number from `minimum` to `maximum`; 0 too where that turns something `off`.

    Where there is no `maximum` by contract, `most` is what can be worked with.
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


def one_of(choices: Sequence[str], *, suggest: str) -> Rule:
    """One of a few words; `suggest` is proposed for a word that is like none of them."""

    def rule(flag: str, text: str) -> str:
        if text not in choices:
            best = [*difflib.get_close_matches(text.lower(), choices, n=1), suggest][0]
            raise _broken(f"{flag} must be one of {', '.join(choices)}", flag, text, f"use {flag} {best}")
        return text

    return rule


def codes(choices: Sequence[str] | None) -> Rule:
    """Scryfall's codes with commas between them, in lower case as Scryfall has them; of `choices`, if there are any."""
    allowed = one_of(choices, suggest=choices[0]) if choices else None

    def rule(flag: str, text: str) -> frozenset[str]:
        found = frozenset(code.strip().lower() for code in text.split(","))
        for code in sorted(found):
            if allowed:
                allowed(flag, code)
            elif not re.fullmatch(r"[a-z0-9_]{1,40}", code):
                raise _broken(f"{flag} must be codes with commas between them", flag, text, f"use {flag} abc,def")
        return found

    return rule


def path(flag: str, text: str) -> Path:
    """A path; `~` is the home directory."""
    if not text or "\0" in text:
        raise _broken(f"{flag} must name a path", flag, text, f"give {flag} a path")
    _require_utf8(flag, text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~nobody
        raise _broken(f"{flag} must name a path", flag, text, f"write the path out: {error}") from None


def file_name(flag: str, text: str) -> str:
    """The name of a file, whatever bytes it is made of; not empty."""
    if not text.strip():
        raise _broken(f"{flag} must not be empty", flag, text, f"leave {flag} out to use its default")
    return text


def words(flag: str, text: str) -> str:
    """Text that is not empty."""
    _require_utf8(flag, text)
    return file_name(flag, text)


def _require_utf8(flag: str, text: str) -> None:
    """What is written into JSON, and handed to libraries in C++, must be text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _broken(f"{flag} must be UTF-8", flag, text, "rename the file or folder, or link to it") from None


def web_address(flag: str, text: str) -> str:
    """An http(s) address; a trailing slash is dropped."""
    try:
        address = urlsplit(text)
        usable = address.scheme in ("http", "https") and bool(address.hostname) and (address.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise _broken(f"{flag} must be an http(s) address", flag, text, f"use {flag} https://api.scryfall.com")
    return text.rstrip("/")


def header_value(flag: str, text: str) -> str:
    """Text that may stand in an HTTP header."""
    if text != text.strip() or not text or not text.isascii() or not text.isprintable():
        raise _broken(
            f"{flag} must be printable ASCII, not empty, without spaces around it",
            flag,
            text,
            f'name your tool and a contact: {flag} "MyTool/1.0 (me@example.org)"',
        )
    return text


def _broken(message: str, flag: str, text: str, suggestion: str) -> BrokenRule:
    return BrokenRule(Problem(message, f"received {flag} {text}".rstrip(), suggestion))


# --------------------------------------------------------------------------------------------------------- parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or isinstance(action.default, bool | list | tuple | frozenset):
            return action.help  # `default: True` or an empty list tells nobody anything
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that names everything that is wrong at once and raises PipelineError instead of exiting."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=_HelpFormatter, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
        self._problems: list[Problem] = []
        self._broken: set[str] = set()
        self._required: list[str] = []
        self._positional: tuple[str, Callable[[str], Any]] | None = None
        self._cross_rules: list[tuple[tuple[str, ...], Callable[[Any], Problem | None]]] = []

    def option(self, flag: str, rule: Rule, *, default: Any, help: str, metavar: str | None = None) -> None:
        """Declare `flag` with the rule its value must obey."""
        self.add_argument(flag, type=self._checked(flag, rule), default=default, help=help, metavar=metavar)

    def required_option(self, flag: str, rule: Rule, *, help: str, metavar: str) -> None:
        """Declare `flag` that must be given, with the rule its value must obey."""
        self.option(flag, rule, default=None, help=f"{help} (required)", metavar=metavar)
        self._required.append(flag)
        name = flag.lstrip("-").replace("-", "_")
        self.cross_rule(
            (name,),
            lambda args: (
                None
                if getattr(args, name) is not None
                else Problem(f"{flag} is required", f"received no {flag}", f"add {flag} {metavar}")
            ),
        )

    def words_or_more(self, name: str, rule: Rule, *, help: str) -> None:
        """Declare a positional argument of which at least one is needed."""
        self._positional = (name.lower(), self._checked(name, rule))
        self.add_argument(name.lower(), metavar=name, nargs="*", type=self._positional[1], help=help)
        self.cross_rule(
            (name.lower(),),
            lambda args: (
                None
                if getattr(args, name.lower())
                else Problem(f"{name} is required", f"received no {name}", f"name at least one: {self.prog} {name}")
            ),
        )

    def format_usage(self) -> str:
        """The usage line, with required options out of brackets: argparse itself must not ask for them, see `parse`."""
        return self._without_brackets(super().format_usage())

    def format_help(self) -> str:
        """The help, likewise."""
        return self._without_brackets(super().format_help())

    def _without_brackets(self, text: str) -> str:
        for flag in self._required:
            text = re.sub(rf"\[({flag} \S+)\]", r"\1", text, count=1)
        return text

    def cross_rule(self, names: Sequence[str], broken: Callable[[Any], Problem | None]) -> None:
        """Declare a rule between options; it is asked only where each of `names` is in order by itself."""
        self._cross_rules.append((tuple(names), broken))

    def parse(self, argv: Sequence[str] | None, namespace: Args) -> Args:
        """Read `argv` (None: the command line) into `namespace`; PipelineError names everything that is broken."""
        given = list(sys.argv[1:] if argv is None else argv)
        dashes = given.index("--") if "--" in given else len(given)
        args, unknown = self.parse_known_intermixed_args(given[:dashes], namespace)
        unknown += self._after_double_dash(args, given[dashes + 1 :])
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
        """Give what follows `--` to the positional argument, which argparse's intermixed way forgets to do."""
        if self._positional is None:
            return words
        name, convert = self._positional
        setattr(args, name, [*getattr(args, name), *map(convert, words)])
        return []

    def error(self, message: str) -> NoReturn:
        """What argparse itself can't read (a flag without its value)."""
        problem = Problem(message, f"received {self.prog} {' '.join(sys.argv[1:])}", f"see {self.prog} --help")
        raise PipelineError(Category.INVALID_ARGUMENTS, [*self._problems, problem])

    def _checked(self, flag: str, rule: Rule) -> Callable[[str], Any]:
        def convert(text: str) -> Any:
            try:
                return rule(flag, text)
            except BrokenRule as broken:
                if broken.problem not in self._problems:  # argparse may convert the same text twice
                    self._problems.append(broken.problem)
                self._broken.add(flag.lstrip("-").replace("-", "_").lower())
                return None

        return convert

    def _unknown(self, text: str) -> Problem:
        flag = text.partition("=")[0]
        near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
        advice = f"did you mean {near[0]}? " if near else ""
        return Problem(f"unknown argument {flag}", f"received {text}", f"{advice}see {self.prog} --help")


# --------------------------------------------------------------------------------- options that scripts have in common


class CardListArgs(argparse.Namespace):
    """Which card list, and where it and its pictures are kept."""

    kind: str
    cache: Path
    limit: int | None
    image_key: str
    api_url: str
    user_agent: str
    refresh: bool
    offline: bool
    lang: frozenset[str]
    set: frozenset[str]
    layout: frozenset[str]
    games: frozenset[str]
    exclude_digital: bool

    @property
    def filters(self) -> Filters:
        """Which cards of the list are wanted."""
        return Filters(self.lang, self.set, self.layout, self.games, self.exclude_digital)


class DownloadArgs(CardListArgs):
    """How pictures are fetched."""

    retry_failed: bool

    workers: int
    timeout_connect: float
    timeout_read: float
    max_retries: int
    max_failures: float


class BuildArgs(CardListArgs):
    """How pictures become an index."""

    out: Path
    batch: int | None
    loaders: int | None
    precision: str
    rebuild: bool
    size: int
    fit: str
    hnsw_m: int
    hnsw_ef_construction: int
    checkpoint_frequency: int
    resume: bool
    validate_cache: bool
    model: str
    pretrained: str
    device: str


class PipelineArgs(DownloadArgs, BuildArgs):
    """Both steps in one command."""


def add_card_list_options(parser: Parser) -> None:
    """--kind, --cache, --limit, --image-key, --api-url, --user-agent, the filters, --refresh, --offline."""
    kinds = ", ".join(LIST_KINDS)
    parser.option(
        "--kind",
        one_of(LIST_KINDS, suggest="unique_artwork"),
        default="unique_artwork",
        metavar="KIND",
        help=f"card list to use: {kinds}",
    )
    parser.option(
        "--cache", path, default=Path("image_cache"), metavar="DIR", help="directory of the pictures and the card list"
    )
    parser.option(
        "--limit",
        number(int, 0, suggest=0),
        default=None,
        metavar="N",
        help="only the first N faces; 0 means not one of them",
    )
    parser.option(
        "--image-key",
        one_of(IMAGE_KEYS, suggest="normal"),
        default="normal",
        metavar="KEY",
        help=f"picture size and format to use ({', '.join(IMAGE_KEYS)}); where a card has none, the same size in the "
        "other format, then the next larger",
    )
    parser.option(
        "--api-url",
        web_address,
        default=os.environ.get("SCRYFALL_API_URL") or "https://api.scryfall.com",
        metavar="URL",
        help="server whose /bulk-data is read; SCRYFALL_API_URL changes the default",
    )
    parser.option(
        "--user-agent",
        header_value,
        default=DEFAULT_USER_AGENT,
        metavar="TEXT",
        help="who asks; Scryfall wants a name and a contact",
    )
    _add_filters(parser)
    parser.add_argument("--refresh", action="store_true", help="fetch the card list again, however fresh it is")
    parser.add_argument("--offline", action="store_true", help="never use the network")
    parser.cross_rule(("refresh", "offline"), _refresh_needs_network)


def _add_filters(parser: Parser) -> None:
    """--lang, --set, --layout, --games, --exclude-digital."""
    for flag, what, example in (
        ("--lang", "languages", "en,de"),
        ("--set", "sets", "lea,leb"),
        ("--layout", "layouts", "normal,transform"),
    ):
        parser.option(
            flag,
            codes(None),
            default=frozenset(),
            metavar="CODE,...",
            help=f"only cards of these {what}, by Scryfall's codes, for example {example}",
        )
    parser.option(
        "--games",
        codes(GAMES),
        default=frozenset(),
        metavar="GAME,...",
        help=f"only cards that are in one of these games: {', '.join(GAMES)}",
    )
    parser.add_argument("--exclude-digital", action="store_true", help="leave out cards that were never printed")


def add_download_options(parser: Parser) -> None:
    """--retry-failed, --workers, --timeout-connect, --timeout-read, --max-retries, --max-failures."""
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="ask only for what the last download_report.json lists; the card list is not read",
    )
    parser.cross_rule(("retry_failed", "refresh", "offline"), _retry_needs_only_the_network)
    parser.option(
        "--workers",
        number(int, 1, 128, suggest=16),
        default=16,
        metavar="N",
        help="pictures fetched at the same time, 1 to 128; 1 is one after the other",
    )
    parser.option(
        "--timeout-connect",
        number(float, 1, suggest=5),
        default=DEFAULT_CONNECT_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="longest wait for a connection",
    )
    parser.option(
        "--timeout-read",
        number(float, 5, suggest=30),
        default=DEFAULT_READ_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="longest silence of a server that is answering",
    )
    parser.option(
        "--max-retries",
        number(int, 0, suggest=5),
        default=DEFAULT_MAX_RETRIES,
        metavar="N",
        help="further tries after a passing failure, waiting 1, 2, 4, 8, 16 s",
    )
    parser.option(
        "--max-failures",
        number(float, 0, 100, suggest=100),
        default=100.0,
        metavar="PERCENT",
        help="exit 2 where more than this share of the faces could not be had",
    )


def add_build_options(parser: Parser) -> None:
    """Options of the build: where to, how pictures are prepared, the model, the index."""
    parser.option("--out", path, default=Path("index_out"), metavar="DIR", help="directory of the results")
    parser.option(
        "--batch",
        number(int, 1, suggest=64, most=65536),
        default=None,
        metavar="N",
        help="pictures the model sees at a time (by default 8 on a CPU, for each core; 256 on CUDA, 64 on MPS); at "
        "most half of --checkpoint-frequency",
    )
    parser.option(
        "--loaders",
        number(int, 1, suggest=4, most=256),
        default=None,
        metavar="N",
        help="threads that read and prepare pictures (by default half the cores on a CPU, at least 2; as many as cores "
        "beside CUDA or MPS, at most 32)",
    )
    parser.option(
        "--precision",
        one_of(PRECISIONS, suggest="auto"),
        default="auto",
        metavar="WHICH",
        help="of the model's weights: fp32, bf16, fp16 (many times slower on a CPU without arithmetic for it); auto "
        "takes the fastest that is as good as fp32 on a few of the run's own pictures, or keeps to that of the rows "
        "that are there, if that is fp32 or as fast",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="embed every picture; without it the rows of the index in --out are taken over where picture, model and "
        "preparation are the same",
    )
    parser.option(
        "--size",
        number(int, 64, suggest=384, most=4096),
        default=384,
        metavar="PIXELS",
        help="side of the square a card is brought to before the model's own preprocessing",
    )
    parser.option(
        "--fit",
        one_of(("pad", "crop"), suggest="pad"),
        default="pad",
        metavar="WAY",
        help="how a card becomes a square: pad (black bars, the whole card) or crop (its centre)",
    )
    parser.option(
        "--hnsw-m",
        number(int, 4, 128, suggest=32),
        default=32,
        metavar="M",
        help="links a row has in the HNSW graph, 4 to 128",
    )
    parser.option(
        "--hnsw-ef-construction",
        number(int, 1, 2000, suggest=200),
        default=200,
        metavar="N",
        help="candidates looked at while the graph is built, --hnsw-m to 2000",
    )
    parser.cross_rule(("hnsw_m", "hnsw_ef_construction"), _candidates_cover_links)
    parser.option(
        "--checkpoint-frequency",
        number(int, 100, suggest=500, off=True),
        default=500,
        metavar="N",
        help="images that a kill may cost, beside those in the model, from 100: a checkpoint is begun every half of "
        "them; 0 saves none while embedding",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on from the checkpoint of an interrupted build in --out (on by default); --no-resume replaces it",
    )
    parser.add_argument(
        "--validate-cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="check the form of every picture before it is decoded (on by default)",
    )
    parser.option(
        "--model",
        words,
        default="ViT-B-32-quickgelu",
        metavar="NAME",
        help="open_clip model, or local-dir:PATH for a folder that holds one (the index remembers where: it is needed "
        "for queries)",
    )
    parser.option(
        "--pretrained", words, default="openai", metavar="TAG", help="open_clip's tag of the weights, or their file"
    )
    add_device_option(parser)


def add_device_option(parser: Parser) -> None:
    """--device."""
    parser.option(
        "--device",
        one_of(("auto", "cpu", "cuda", "mps"), suggest="auto"),
        default="auto",
        metavar="DEVICE",
        help="where the model runs: auto, cpu, cuda, mps",
    )


def _refresh_needs_network(args: CardListArgs) -> Problem | None:
    if not (args.refresh and args.offline):
        return None
    return Problem(
        "--refresh and --offline exclude each other", "received --refresh --offline", "leave one of the two out"
    )


def _retry_needs_only_the_network(args: DownloadArgs) -> Problem | None:
    other = "--offline" if args.offline else "--refresh" if args.refresh else None
    if not args.retry_failed or other is None:
        return None
    return Problem(
        f"--retry-failed and {other} exclude each other", f"received --retry-failed {other}", "leave one of the two out"
    )


def _candidates_cover_links(args: BuildArgs) -> Problem | None:
    if args.hnsw_ef_construction >= args.hnsw_m:
        return None
    return Problem(
        "--hnsw-ef-construction must be >= --hnsw-m",
        f"received --hnsw-ef-construction {args.hnsw_ef_construction} --hnsw-m {args.hnsw_m}",
        f"use --hnsw-ef-construction {max(200, args.hnsw_m)}",
    )


# ------------------------------------------------------------------------------------------------------- how it ends


class Terminated(BaseException):
    """SIGTERM, as an exception, so that `finally` and `with` clean up as they do for Ctrl-C."""


def run(main: Callable[[], int], *, stopped: str = "what was finished is kept, nothing is half-written.") -> int:
    """Call `main` and return the process's exit code; known failures become words on stderr, never a traceback.

    `stopped` is what a user wants to hear who has interrupted it.
    """
    try:
        return _told(main, stopped)
    except KeyboardInterrupt:  # while an end of another kind was about to be told
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED


def _told(main: Callable[[], int], stopped: str) -> int:
    try:
        _make_streams_robust()
        _raise_on_signals()
        code = main()
        sys.stdout.flush()
        _ignore_signals()  # on the way out there is nothing left to stop
        return code
    except PipelineError as error:
        _ignore_signals()
        tell(error.render())
        return error.exit_code
    except KeyboardInterrupt:
        _ignore_signals()
        say(f"Interrupted: {stopped}")
        return EXIT_INTERRUPTED
    except Terminated:
        _ignore_signals()
        say(f"Terminated: {stopped}")
        return EXIT_TERMINATED
    except BrokenPipeError:
        _drop_stdout()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        _drop_stdout()
        tell(_no_space(error).render())
        return EXIT_ERROR


def _no_space(error: OSError) -> PipelineError:
    """What writes files names them itself; what is left is what we print, and what libraries keep."""
    return PipelineError.of(
        Category.CONFIGURATION,
        "a disk is full",
        details=f"{error.filename or 'stdout, or a temporary file'}: {error.strerror}",
        suggestion="make room and run the same command again; what was finished is kept",
    )


def _drop_stdout() -> None:
    """Python flushes stdout once more on its way out, which would complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _make_streams_robust() -> None:
    """A stream that is closed swallows what is said; a name that a terminal can't show is no reason to stop."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole run
    for name, errors in (("stdin", "surrogateescape"), ("stdout", "backslashreplace"), ("stderr", "backslashreplace")):
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _raise_on_signals() -> None:
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, _raise_terminated)):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `interrupts` has it
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """A second Ctrl-C must not change how the first one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _raise_terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated
