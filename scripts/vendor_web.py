"""Fetch the libraries of the browser's page from npm, at pinned versions: onnxruntime-web and OpenCV's WASM build.

Reads:  the npm registry, through `npm pack`, so that npm's own configuration holds (registry, proxy)
Writes: web/vendor/ - the files that the page needs, their licences, and manifest.json: path, bytes, sha256 of each
Next:   serve_web.py, or any static server

Each package must have the SHA-512 that is pinned here. What is there and unchanged is not fetched again, so a kept
folder needs no network.
"""

import argparse
import base64
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import _path  # noqa: F401  # must come before helpers
import msgspec

from helpers.artifacts import VENDORED, WEB
from helpers.atomic_io import atomic_set, atomic_write_bytes, atomic_write_json, writable_folder
from helpers.cli_validation import Parser, path
from helpers.ending import run
from helpers.errors import BAD_JSON, Category, ExitCode, PipelineError
from helpers.talk import human_bytes, say

NPM_RETRIES = ("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")  # milliseconds


@dataclass(frozen=True, slots=True)
class Package:
    """A package of npm, and what is taken from it."""

    name: str
    version: str
    integrity: str  # as npm writes it
    files: Mapping[str, str]  # path in the package -> name here


PACKAGES = (
    Package(
        "onnxruntime-web",
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        {
            "dist/ort.wasm.bundle.min.mjs": "ort.wasm.bundle.min.mjs",
            "dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
            "dist/ort.webgpu.bundle.min.mjs": "ort.webgpu.bundle.min.mjs",
            "dist/ort-wasm-simd-threaded.asyncify.wasm": "ort-wasm-simd-threaded.asyncify.wasm",
            "package.json": "onnxruntime-web.package.json",  # names the licence; it has no other file
        },
    ),
    Package(
        "@techstark/opencv-js",
        "5.0.0-release.1",
        "sha512-PIm+eB0MFtieXoNC2GRao0dv/02sehG+Nv2nSW5D6pQm6J/4WqvDHm0RyoqOmGYQm67jdGiaOdIeTShCY3PIUg==",
        {"dist/opencv.js": "opencv.js", "LICENSE": "opencv.LICENSE"},
    ),
)


class Vendored(msgspec.Struct, frozen=True):
    """A file of the folder."""

    path: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What the folder holds: manifest.json, written last."""

    packages: dict[str, str]  # name@version -> integrity
    files: list[Vendored]


class VendorArgs(argparse.Namespace):
    """The command line."""

    out: Path


def parse_args(argv: Sequence[str] | None) -> VendorArgs:
    """Read the command line."""
    parser = Parser(__doc__)
    parser.option("--out", path, WEB / "vendor", "DIR", "directory for the libraries")
    return parser.parse(argv, VendorArgs())


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch what is missing or changed."""
    out = parse_args(argv).out
    if not is_complete(out):
        vendor(writable_folder(out, "--out"))
        say(f"Fetched {', '.join(wanted())} to {out}: {human_bytes(sum(file.bytes for file in read(out).files))}")
    return ExitCode.OK


def wanted() -> dict[str, str]:
    """The packages as the manifest names them."""
    return {f"{package.name}@{package.version}": package.integrity for package in PACKAGES}


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds these packages, each file with the bytes that it came with."""
    try:
        manifest = read(folder)
        names = {name for package in PACKAGES for name in package.files.values()}
        same = manifest.packages == wanted() and {file.path for file in manifest.files} == names
        return same and all(vendored(folder / file.path) == file for file in manifest.files)
    except (OSError, *BAD_JSON):
        return False


def read(folder: Path) -> Manifest:
    """The manifest of `folder`; OSError or one of BAD_JSON if there is none."""
    return msgspec.json.decode((folder / VENDORED).read_bytes(), type=Manifest)


def vendored(file: Path) -> Vendored:
    """What the manifest says of a file."""
    data = file.read_bytes()
    return Vendored(file.name, len(data), hashlib.sha256(data).hexdigest())


def vendor(folder: Path) -> None:
    """Fetch the packages and replace what is in `folder`, all or nothing."""
    with tempfile.TemporaryDirectory() as temporary, atomic_set(folder, VENDORED) as staging:
        for package in PACKAGES:
            say(f"Fetching {package.name} {package.version} from npm")
            unpack(fetch(package, Path(temporary)), package, staging)
        files = [vendored(file) for file in sorted(staging.iterdir())]
        atomic_write_json(staging / VENDORED, Manifest(wanted(), files))


def fetch(package: Package, folder: Path) -> Path:
    """Have npm fetch a package; PipelineError if it can't, or the package is not the one that is pinned."""
    name = f"{package.name}@{package.version}"
    words = ["npm", "pack", name, "--pack-destination", str(folder), "--ignore-scripts", "--silent", "--loglevel=error"]
    try:
        done = subprocess.run([*words, *NPM_RETRIES], capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "npm is needed to fetch the page's libraries",
            details=f"npm: {error.strerror}",
            suggestion="install it (Debian: apt install npm), or copy web/vendor/ from where make vendor has run",
        ) from error
    if done.returncode:
        raise PipelineError.of(
            Category.NETWORK,
            f"npm can't fetch {name}",
            details="; ".join(line.strip() for line in done.stderr.splitlines()[:3]) or f"exit code {done.returncode}",
            suggestion="check the network and npm's registry (npm ping), then run make vendor again",
        )
    archive = folder / done.stdout.split()[-1]
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise PipelineError.of(
            Category.VALIDATION,
            f"npm's {name} is not the package that this project was tested with",
            details=f"expected {package.integrity}, got {found}",
            suggestion="check npm's registry (npm config get registry); don't use what it sent",
        )
    return archive


def unpack(archive: Path, package: Package, folder: Path) -> None:
    """Take the files that are needed out of a package that was checked."""
    with tarfile.open(archive) as tar:
        for inside, name in package.files.items():
            member = tar.extractfile(f"package/{inside}")
            if member is None:
                raise KeyError(inside)  # of a package whose hash is pinned: a mistake above
            atomic_write_bytes(folder / name, member.read())


if __name__ == "__main__":
    raise SystemExit(run(main))
