"""The flags that scripts share, and the stages' inputs made from them."""

import argparse
import os
from dataclasses import fields
from pathlib import Path

from helpers.build.request import PRECISIONS, BuildRequest
from helpers.cards.faces import FILTERS, GAMES, IMAGE_KEYS, LIST_KINDS, CardFace, Filters, Selection
from helpers.cli_validation import Parser, codes, header_value, number, one_of, path, web_address, words
from helpers.errors import Problem
from helpers.index.browser_format import ALWAYS
from helpers.index.bundle import ENCODER_PRECISIONS, SUFFIXES, How
from helpers.index.whitening import MIN_ROWS
from helpers.session import Http

_HTTP, _BUILD = Http(), BuildRequest()
_KIND, _KEY = Selection().kind, Selection().image_key


class CardListArgs(argparse.Namespace):
    """Which card list, and where it and its pictures are stored."""

    kind: str
    cache: Path
    limit: int | None
    image_key: str
    api_url: str
    user_agent: str
    refresh: bool
    offline: bool
    lang: tuple[str, ...]
    set: tuple[str, ...]
    layout: tuple[str, ...]
    games: tuple[str, ...]
    exclude_digital: bool
    given: frozenset[str]  # the names of flags on the command line

    @property
    def selection(self) -> Selection:
        """Which faces are wanted."""
        filters = Filters(self.lang, self.set, self.layout, self.games, self.exclude_digital)
        return Selection(self.kind, self.image_key, self.limit, filters)

    @property
    def http(self) -> Http:
        """Which server is asked, and how."""
        return Http(self.api_url, self.user_agent)


class DownloadArgs(CardListArgs):
    """How pictures are downloaded."""

    retry_failed: bool
    newest: bool
    workers: int
    timeout_connect: float
    timeout_read: float
    max_retries: int
    max_failures: float

    @property
    def how_to_download(self) -> dict[str, bool]:
        """The keyword arguments of `download`."""
        return {name: getattr(self, name) for name in ("refresh", "newest", "offline", "retry_failed")}

    @property
    def http(self) -> Http:
        """Which server is asked, and how."""
        times = (self.timeout_connect, self.timeout_read)
        return Http(self.api_url, self.user_agent, self.workers, *times, self.max_retries)


class BuildArgs(CardListArgs):
    """How pictures become an index."""

    pictures: Path | None
    table: Path | None
    out: Path
    batch: int | None
    loaders: int | None
    precision: str
    rebuild: bool
    size: int
    fit: str
    hnsw_m: int
    hnsw_ef_construction: int
    whiten: bool
    whiten_dim: int | None
    whiten_ridge: float
    checkpoint_frequency: int
    resume: bool
    validate_cache: bool
    model: str
    pretrained: str
    device: str

    @property
    def request(self) -> BuildRequest:
        """What to build, and how."""
        return BuildRequest(**{field.name: getattr(self, field.name) for field in fields(BuildRequest)})


class BrowserArgs(argparse.Namespace):
    """What is exported for browsers."""

    encoder: tuple[str, ...]
    fields: tuple[str, ...]
    compress: tuple[str, ...]
    rows_per_file: int | None

    @property
    def how(self) -> How:
        """All of these but the encoder, which is made apart."""
        return How(self.fields, self.compress, self.rows_per_file)


class PipelineArgs(DownloadArgs, BuildArgs, BrowserArgs):
    """Both steps in one command."""

    export: bool


def add_card_list_options(parser: Parser) -> None:
    """Which cards, and where their list comes from."""
    parser.section("which cards")
    kinds, keys = ", ".join(LIST_KINDS), ", ".join(IMAGE_KEYS)
    parser.option("--kind", one_of(LIST_KINDS, suggest=_KIND), _KIND, "KIND", f"Scryfall's card list: {kinds}")
    parser.option("--limit", number(int, 0, suggest=200), None, "N", "take only the first N faces; 0: none")
    parser.option(
        "--image-key",
        one_of(IMAGE_KEYS, suggest=_KEY),
        _KEY,
        "KEY",
        f"size and format of the pictures: {keys}; a card lacking it falls back to the same size in the other "
        "format, then to the next larger",
    )
    parser.option("--lang", codes(None), (), "CODE,...", "only cards in these languages, for example en,de")
    parser.option("--set", codes(None), (), "CODE,...", "only cards of these sets, for example lea,leb")
    parser.option("--layout", codes(None), (), "CODE,...", "only cards of these layouts, for example normal,transform")
    parser.option("--games", codes(GAMES), (), "GAME,...", f"only cards in these games: {', '.join(GAMES)}")
    parser.flag("--exclude-digital", "leave out cards that were never printed")
    parser.section("card list and cache")
    parser.option("--cache", path, _BUILD.cache, "DIR", "directory for the pictures and the card list")
    api_url = os.environ.get("SCRYFALL_API_URL") or _HTTP.api_url
    parser.option("--api-url", web_address, api_url, "URL", "server with Scryfall's API (or set SCRYFALL_API_URL)")
    agent = "User-Agent header; Scryfall asks for a name and a contact"
    parser.option("--user-agent", header_value, _HTTP.user_agent, "TEXT", agent)
    parser.flag("--refresh", "download the card list again, whether or not it has changed")
    parser.flag("--offline", "never use the network")
    parser.cross_rule(("refresh", "offline"), _refresh_needs_network)


def add_browser_options(parser: Parser) -> None:
    """What is exported for browsers, and how."""
    encoder = "also export the model's image tower as ONNX, in fp32, fp16 or int8 (default: none; bare flag: fp16)"
    parser.option("--encoder", codes(ENCODER_PRECISIONS), (), "PRECISION,...", encoder, bare=("fp16",))
    fields = f"fields of the records besides {', '.join(ALWAYS)} (default: all)"
    parser.option("--fields", codes(CardFace.__struct_fields__), (), "FIELD,...", fields)
    compress = "also write compressed copies of files that get smaller by it: gzip (.gz), brotli (.br)"
    parser.option("--compress", codes(tuple(SUFFIXES)), (), "METHOD,...", compress)
    rows = "also write records, vectors and hashes in parts of N rows, so that a page can search before it has them all"
    parser.option("--rows-per-file", number(int, 100, suggest=10_000), None, "N", rows)


def add_download_options(parser: Parser) -> None:
    """How pictures are downloaded."""
    parser.section("downloading")
    newest = "ask the server for a newer card list; otherwise it is asked only once in 24 hours"
    parser.flag("--newest", newest)
    parser.cross_rule(("newest", "offline"), _newest_needs_network)
    parser.flag("--retry-failed", "only retry the failures in the last download_report.json; the card list is not read")
    parser.cross_rule(("retry_failed", "refresh", "offline"), _retry_needs_only_the_network)
    workers = number(int, 1, 128, suggest=_HTTP.workers)
    parser.option("--workers", workers, _HTTP.workers, "N", "concurrent downloads, 1 to 128")
    connect, read = (number(float, least, suggest=usual) for least, usual in ((1, 5), (5, 30)))
    parser.option("--timeout-connect", connect, _HTTP.connect_timeout, "SECONDS", "connection timeout")
    parser.option("--timeout-read", read, _HTTP.read_timeout, "SECONDS", "read timeout: longest silence of a server")
    retries = "retries after a temporary failure, with a backoff of 1, 2, 4, 8, 16 s"
    parser.option("--max-retries", number(int, 0, suggest=5), _HTTP.max_retries, "N", retries)
    failures = "exit with code 2 if more than this share of the faces could not be downloaded"
    parser.option("--max-failures", number(float, 0, 100, suggest=100), 100.0, "PERCENT", failures)


def add_build_options(parser: Parser) -> None:
    """Own pictures, where the index goes, the model, the preprocessing, and which rows are reused."""
    parser.section("own pictures, in place of a card list")
    parser.option("--pictures", path, None, "DIR", "directory tree of pictures, named by their files or by --table")
    parser.option(
        "--table",
        path,
        None,
        "CSV",
        "names of the pictures: columns file (relative to --pictures), name and optionally set, collector_number, …",
    )
    parser.cross_rule(("pictures", "table"), table_names_pictures)
    parser.cross_rule(("pictures",), _pictures_are_no_list)
    parser.section("index")
    parser.option("--out", path, _BUILD.out, "DIR", "index directory")
    links = number(int, 4, 128, suggest=_BUILD.hnsw_m)
    parser.option("--hnsw-m", links, _BUILD.hnsw_m, "M", "links per row in the HNSW graph, 4 to 128")
    parser.option(
        "--hnsw-ef-construction",
        number(int, 1, 2000, suggest=200),
        _BUILD.hnsw_ef_construction,
        "N",
        "candidates considered while building the graph, --hnsw-m to 2000",
    )
    parser.cross_rule(("hnsw_m", "hnsw_ef_construction"), _candidates_cover_links)
    parser.switch("--whiten", "also fit a whitening and index the whitened rows, which tell cards apart better (on by "
                  f"default, from {MIN_ROWS} rows on)")  # fmt: skip
    dimensions = "dimensions of whitened rows, at most the model's (default: half of the model's)"
    parser.option("--whiten-dim", number(int, 8, 4096, suggest=256), None, "K", dimensions)
    ridge = "what is added to every eigenvalue, in mean eigenvalues; less tells more cards apart, but amplifies noise"
    parser.option("--whiten-ridge", number(float, 0.001, 1000, suggest=1), _BUILD.whiten_ridge, "R", ridge)
    parser.cross_rule(("whiten", "whiten_dim"), _whitening_is_wanted)
    _add_model_options(parser)
    parser.section("resuming and reusing")
    frequency = number(int, 100, suggest=500, off=True)
    lost = "images that a kill loses at most (>= 100; 0: no checkpoints while embedding)"
    parser.option("--checkpoint-frequency", frequency, _BUILD.checkpoint_frequency, "N", lost)
    parser.switch("--resume", "reuse rows of an interrupted build in --out (on by default); --no-resume discards them")
    parser.flag(
        "--rebuild",
        "reuse no rows of the index in --out; without it, those of unchanged picture, model and preprocessing are",
    )
    parser.switch("--validate-cache", "check the structure of every picture before decoding it (on by default)")


def _add_model_options(parser: Parser) -> None:
    parser.section("model and pictures")
    add_model_option(parser, _BUILD.model, _BUILD.pretrained)
    add_device_option(parser)
    parser.option(
        "--precision",
        one_of(PRECISIONS, suggest=_BUILD.precision),
        _BUILD.precision,
        "WHICH",
        "precision of the model's weights: fp32, bf16, fp16; auto keeps that of existing rows, or takes the fastest "
        "that tells the run's own pictures apart as well as fp32",
    )
    side = "side of the square that a card is fitted to before the model's own preprocessing"
    parser.option("--size", number(int, 64, suggest=384, most=4096), _BUILD.size, "PIXELS", side)
    fit = "how to make a card square: pad (the whole card, with black bars) or crop (its centre)"
    parser.option("--fit", one_of(("pad", "crop"), suggest="pad"), _BUILD.fit, "WAY", fit)
    parser.option(
        "--batch",
        number(int, 1, suggest=64, most=65536),
        None,
        "N",
        "pictures per model call, at most half of --checkpoint-frequency (default: 8 on a CPU, where each core makes "
        "its own calls; 256 on CUDA, 64 on MPS)",
    )
    parser.option(
        "--loaders",
        number(int, 1, suggest=4, most=256),
        None,
        "N",
        "threads that load and preprocess pictures (default: half the cores on a CPU, at least 2; one per core with "
        "CUDA or MPS, at most 32)",
    )


def add_model_option(parser: Parser, model: str, pretrained: str) -> None:
    """--model and --pretrained, with these defaults."""
    what = "open_clip model; cards, this project's own, the best for photographs; hf-hub:OWNER/NAME, a model on the "
    what += (
        "Hugging Face hub (or the one at HF_ENDPOINT); or local-dir:PATH, a folder with a model; queries need it, too"
    )
    parser.option("--model", words, model, "NAME", what)
    weights = "open_clip's tag for its weights, or a weights file; cards, hf-hub: and local-dir: have their own"
    parser.option("--pretrained", words, pretrained, "TAG", weights)


def add_device_option(parser: Parser) -> None:
    """--device."""
    devices = ("auto", "cpu", "cuda", "mps")
    parser.option(
        "--device", one_of(devices, suggest="auto"), "auto", "DEVICE", "device for the model: auto, cpu, cuda, mps"
    )


def table_names_pictures(args: argparse.Namespace) -> Problem | None:
    """The rule that --table needs --pictures."""
    if args.table is None or args.pictures is not None:
        return None
    return Problem("--table needs --pictures", f"received --table {args.table}", "add --pictures DIR")


def _pictures_are_no_list(args: BuildArgs) -> Problem | None:
    of_lists = {
        "kind",
        "image_key",
        "cache",
        "api_url",
        "refresh",
        "newest",
        "retry_failed",
        *FILTERS,
        "exclude_digital",
    }
    both = sorted(f"--{name.replace('_', '-')}" for name in args.given & of_lists)
    if args.pictures is None or not both:
        return None
    message = f"--pictures and {both[0]} are mutually exclusive"
    return Problem(message, f"received --pictures {args.pictures} {' '.join(both)}", "leave one of them out")


def _newest_needs_network(args: DownloadArgs) -> Problem | None:
    if not (args.newest and args.offline):
        return None
    return Problem(
        "--newest and --offline are mutually exclusive", "received --newest --offline", "leave one of them out"
    )


def _refresh_needs_network(args: CardListArgs) -> Problem | None:
    if not (args.refresh and args.offline):
        return None
    return Problem(
        "--refresh and --offline are mutually exclusive", "received --refresh --offline", "leave one of them out"
    )


def _retry_needs_only_the_network(args: DownloadArgs) -> Problem | None:
    other = "--offline" if args.offline else "--refresh" if args.refresh else None
    if not args.retry_failed or other is None:
        return None
    message = f"--retry-failed and {other} are mutually exclusive"
    return Problem(message, f"received --retry-failed {other}", "leave one of them out")


def _whitening_is_wanted(args: BuildArgs) -> Problem | None:
    if args.whiten or args.whiten_dim is None:
        return None
    received = f"received --no-whiten --whiten-dim {args.whiten_dim}"
    return Problem("--whiten-dim can't be used with --no-whiten", received, "leave one of them out")


def _candidates_cover_links(args: BuildArgs) -> Problem | None:
    if args.hnsw_ef_construction >= args.hnsw_m:
        return None
    return Problem(
        "--hnsw-ef-construction must be >= --hnsw-m",
        f"received --hnsw-ef-construction {args.hnsw_ef_construction} --hnsw-m {args.hnsw_m}",
        f"use --hnsw-ef-construction {max(200, args.hnsw_m)}",
    )
