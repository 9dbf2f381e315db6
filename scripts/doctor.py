"""Say what this machine has, and what to do about what it lacks. Any Python from 3.10 on runs it, without packages.

Reads:  Python, packages, cores, memory, disks, GPU, models, ports; asks the model hub and Scryfall, once each
Writes: nothing; prints one line a check: ok, note (a build can do without) or missing (it can't), and what to do
Next:   make env, or build_mtg_faiss.py

Without the packages it leaves out what needs them: GPU, models, Scryfall.

Exit codes: 0 nothing is missing; 1 something is, or bad arguments.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import _path  # noqa: F401  # must come before helpers

from helpers.cards.sizes import LISTS
from helpers.cli_validation import Parser, number, one_of, path, web_address
from helpers.doctor import machine
from helpers.doctor.finding import MISSING, NOTE, Finding
from helpers.ending import run
from helpers.errors import ExitCode


class DoctorArgs(argparse.Namespace):
    """The command line."""

    kind: str
    cache: Path
    out: Path
    port: int
    api_url: str | None
    offline: bool
    json: bool


def parse_args(argv: Sequence[str] | None) -> DoctorArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    kind = next(iter(LISTS))
    parser.option("--kind", one_of(tuple(LISTS), suggest=kind), kind, "KIND", "card list that is to be built")
    parser.option("--cache", path, Path("image_cache"), "DIR", "directory for the pictures and the card list")
    parser.option("--out", path, Path("index_out"), "DIR", "directory for the index")
    parser.option("--port", number(int, 1, 65_535, suggest=8000), 8000, "N", "port that make serve is to listen on")
    api_url = os.environ.get("SCRYFALL_API_URL") or None
    parser.option(
        "--api-url",
        web_address,
        api_url,
        "URL",
        "server with Scryfall's API (or set SCRYFALL_API_URL; default: Scryfall)",
    )
    parser.flag("--offline", "never use the network")
    parser.flag("--json", "print one JSON object")
    return parser.parse(argv, DoctorArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything, and print each line as it is known."""
    args = parse_args(argv)
    findings = []
    for finding in checks(args):
        findings.append(finding)
        if not args.json:
            print(finding, flush=True)
    ready = all(finding.state != MISSING for finding in findings)
    if args.json:
        print(json.dumps({"ready": ready, "checks": [asdict(finding) for finding in findings]}, indent=2))
    return ExitCode.OK if ready else ExitCode.LACKING


def checks(args: DoctorArgs) -> Iterator[Finding]:
    """Everything, what is quick first."""
    packages = machine.packages()
    yield machine.python()
    yield packages
    yield machine.cores()
    yield machine.memory(args.kind)
    lacking = packages.state == MISSING
    yield from machine.disks(machine.needs(args.kind, args.cache, args.out, environment=lacking), args.kind)
    yield machine.open_files()
    yield machine.clock()
    yield machine.port(args.port)
    yield machine.page_libraries()
    yield machine.browser()
    if lacking:
        yield Finding(NOTE, "the rest", "GPU, models and Scryfall need the packages", "run this again after make env")
    else:
        yield from checks_with_packages(args)


def checks_with_packages(args: DoctorArgs) -> Iterator[Finding]:
    """What takes seconds, or the network."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when open_clip is imported: nothing is to be fetched
    from helpers.doctor import beyond  # here: it needs the packages

    imports = beyond.imports()
    yield imports
    if imports.state == MISSING:
        return
    yield beyond.device()
    yield beyond.card_encoder()
    yield beyond.clip(args.offline)
    yield beyond.card_list(args.cache) if args.offline else beyond.scryfall(args.api_url, args.cache)


if __name__ == "__main__":
    raise SystemExit(run(main))
