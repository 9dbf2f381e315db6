"""The flags that scripts share, and what the stages take of them."""

import argparse
import os
from dataclasses import fields
from pathlib import Path

from helpers.build.request import PRECISIONS, BuildRequest
from helpers.cards.faces import GAMES, IMAGE_KEYS, LIST_KINDS, Filters, Selection
from helpers.cli_validation import Parser, codes, header_value, number, one_of, path, web_address, words
from helpers.errors import Problem
from helpers.session import Http

_SELECTION, _HTTP, _BUILD = Selection(), Http(), BuildRequest()


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
    lang: tuple[str, ...]
    set: tuple[str, ...]
    layout: tuple[str, ...]
    games: tuple[str, ...]
    exclude_digital: bool

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
    """How pictures are fetched."""

    retry_failed: bool
    workers: int
    timeout_connect: float
    timeout_read: float
    max_retries: int
    max_failures: float

    @property
    def how_to_download(self) -> dict[str, bool]:
        """The switches of `download`."""
        return {"refresh": self.refresh, "offline": self.offline, "retry_failed": self.retry_failed}

    @property
    def http(self) -> Http:
        """Which server is asked, and how."""
        times = (self.timeout_connect, self.timeout_read)
        return Http(self.api_url, self.user_agent, self.workers, *times, self.max_retries)


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

    @property
    def request(self) -> BuildRequest:
        """What the build is to do."""
        return BuildRequest(**{field.name: getattr(self, field.name) for field in fields(BuildRequest)})


class PipelineArgs(DownloadArgs, BuildArgs):
    """Both steps in one command."""


def add_card_list_options(parser: Parser) -> None:
    """Which cards, and where their list comes from."""
    parser.section("which cards")
    parser.option(
        "--kind",
        one_of(LIST_KINDS, suggest=_SELECTION.kind),
        default=_SELECTION.kind,
        metavar="KIND",
        help=f"Scryfall's card list: {', '.join(LIST_KINDS)}",
    )
    parser.option(
        "--limit", number(int, 0, suggest=0), default=None, metavar="N", help="only the first N faces; 0: none"
    )
    parser.option(
        "--image-key",
        one_of(IMAGE_KEYS, suggest=_SELECTION.image_key),
        default=_SELECTION.image_key,
        metavar="KEY",
        help=f"size and format of the pictures: {', '.join(IMAGE_KEYS)}; a card without it falls back to the same size "
        "in the other format, then to the next larger",
    )
    for flag, what, example in (
        ("--lang", "languages", "en,de"),
        ("--set", "sets", "lea,leb"),
        ("--layout", "layouts", "normal,transform"),
    ):
        parser.option(
            flag, codes(None), default=(), metavar="CODE,...", help=f"only cards of these {what}, for example {example}"
        )
    parser.option(
        "--games", codes(GAMES), default=(), metavar="GAME,...", help=f"only cards in these games: {', '.join(GAMES)}"
    )
    parser.flag("--exclude-digital", help="leave out cards that were never printed")
    parser.section("card list and cache")
    parser.option(
        "--cache", path, default=_BUILD.cache, metavar="DIR", help="directory of the pictures and the card list"
    )
    parser.option(
        "--api-url",
        web_address,
        default=os.environ.get("SCRYFALL_API_URL") or _HTTP.api_url,
        metavar="URL",
        help="server to ask for /bulk-data; SCRYFALL_API_URL changes the default",
    )
    parser.option(
        "--user-agent",
        header_value,
        default=_HTTP.user_agent,
        metavar="TEXT",
        help="User-Agent header; Scryfall wants a name and a contact",
    )
    parser.flag("--refresh", help="fetch the card list again, however fresh it is")
    parser.flag("--offline", help="never use the network")
    parser.cross_rule(("refresh", "offline"), _refresh_needs_network)


def add_download_options(parser: Parser) -> None:
    """How pictures are fetched."""
    parser.section("downloading")
    parser.flag("--retry-failed", help="fetch only what the last download_report.json lists; the card list is not read")
    parser.cross_rule(("retry_failed", "refresh", "offline"), _retry_needs_only_the_network)
    parser.option(
        "--workers",
        number(int, 1, 128, suggest=_HTTP.workers),
        default=_HTTP.workers,
        metavar="N",
        help="pictures fetched at the same time, 1 to 128",
    )
    parser.option(
        "--timeout-connect",
        number(float, 1, suggest=_HTTP.connect_timeout),
        default=_HTTP.connect_timeout,
        metavar="SECONDS",
        help="longest wait for a connection",
    )
    parser.option(
        "--timeout-read",
        number(float, 5, suggest=_HTTP.read_timeout),
        default=_HTTP.read_timeout,
        metavar="SECONDS",
        help="longest silence while a server answers",
    )
    parser.option(
        "--max-retries",
        number(int, 0, suggest=_HTTP.max_retries),
        default=_HTTP.max_retries,
        metavar="N",
        help="retries after a temporary failure, waiting 1, 2, 4, 8, 16 s",
    )
    parser.option(
        "--max-failures",
        number(float, 0, 100, suggest=100),
        default=100.0,
        metavar="PERCENT",
        help="exit 2 when more than this share of the faces could not be downloaded",
    )


def add_build_options(parser: Parser) -> None:
    """Where the index goes, the model, how pictures are prepared, how rows are made and kept, the index."""
    parser.section("index")
    parser.option("--out", path, default=_BUILD.out, metavar="DIR", help="directory of the index")
    parser.option(
        "--hnsw-m",
        number(int, 4, 128, suggest=_BUILD.hnsw_m),
        default=_BUILD.hnsw_m,
        metavar="M",
        help="links per row in the HNSW graph, 4 to 128",
    )
    parser.option(
        "--hnsw-ef-construction",
        number(int, 1, 2000, suggest=_BUILD.hnsw_ef_construction),
        default=_BUILD.hnsw_ef_construction,
        metavar="N",
        help="candidates considered while the graph is built, --hnsw-m to 2000",
    )
    parser.cross_rule(("hnsw_m", "hnsw_ef_construction"), _candidates_cover_links)
    _add_model_options(parser)
    parser.section("resuming and reusing")
    parser.option(
        "--checkpoint-frequency",
        number(int, 100, suggest=_BUILD.checkpoint_frequency, off=True),
        default=_BUILD.checkpoint_frequency,
        metavar="N",
        help="most images lost on a kill (>= 100; 0 = off)",
    )
    parser.switch(
        "--resume", help="use the rows of an interrupted build in --out (on by default); --no-resume discards them"
    )
    parser.flag(
        "--rebuild",
        help="take no row from the index in --out; without it, rows whose picture, model and preparation are unchanged "
        "are reused",
    )
    parser.switch("--validate-cache", help="check the structure of every picture before decoding it (on by default)")


def _add_model_options(parser: Parser) -> None:
    parser.section("model and pictures")
    parser.option(
        "--model",
        words,
        default=_BUILD.model,
        metavar="NAME",
        help="open_clip model, or local-dir:PATH for a folder that holds one; queries need it too",
    )
    parser.option(
        "--pretrained",
        words,
        default=_BUILD.pretrained,
        metavar="TAG",
        help="open_clip's tag of its weights, or a file",
    )
    add_device_option(parser)
    parser.option(
        "--precision",
        one_of(PRECISIONS, suggest=_BUILD.precision),
        default=_BUILD.precision,
        metavar="WHICH",
        help="of the model's weights: fp32, bf16, fp16; auto takes the fastest that tells the run's own pictures apart "
        "as well as fp32, or that of the rows already there",
    )
    parser.option(
        "--size",
        number(int, 64, suggest=_BUILD.size, most=4096),
        default=_BUILD.size,
        metavar="PIXELS",
        help="side of the square a card is fitted to before the model's own preprocessing",
    )
    parser.option(
        "--fit",
        one_of(("pad", "crop"), suggest=_BUILD.fit),
        default=_BUILD.fit,
        metavar="WAY",
        help="how a card becomes a square: pad (black bars, the whole card) or crop (its centre)",
    )
    parser.option(
        "--batch",
        number(int, 1, suggest=64, most=65536),
        default=None,
        metavar="N",
        help="pictures per call of the model, at most half of --checkpoint-frequency (default: 8 for each core on "
        "a CPU, 256 on CUDA, 64 on MPS)",
    )
    parser.option(
        "--loaders",
        number(int, 1, suggest=4, most=256),
        default=None,
        metavar="N",
        help="threads that read and prepare pictures (default: half the cores on a CPU, at least 2; one per core "
        "with CUDA or MPS, at most 32)",
    )


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
        "--refresh and --offline exclude each other", "received --refresh --offline", "leave one of them out"
    )


def _retry_needs_only_the_network(args: DownloadArgs) -> Problem | None:
    other = "--offline" if args.offline else "--refresh" if args.refresh else None
    if not args.retry_failed or other is None:
        return None
    message = f"--retry-failed and {other} exclude each other"
    return Problem(message, f"received --retry-failed {other}", "leave one of them out")


def _candidates_cover_links(args: BuildArgs) -> Problem | None:
    if args.hnsw_ef_construction >= args.hnsw_m:
        return None
    return Problem(
        "--hnsw-ef-construction must be >= --hnsw-m",
        f"received --hnsw-ef-construction {args.hnsw_ef_construction} --hnsw-m {args.hnsw_m}",
        f"use --hnsw-ef-construction {max(200, args.hnsw_m)}",
    )
