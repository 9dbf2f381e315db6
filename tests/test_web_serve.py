"""scripts/serve_web.py: one tree with the headers that a page needs, and nothing outside it. scripts/vendor_web.py."""

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from helpers.artifacts import VENDORED, WEB
from helpers.cards.image_cache import ImageCache
from tests.browser import BLANK, Served, serving_web
from tests.conftest import ROOT, Built, run_script

if TYPE_CHECKING:
    from playwright.sync_api import Page

URL = "https://cards.example.org/a.png"
NAME = ImageCache.name_for(URL)


class Got(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with index/ and cards/, and secrets around them."""
    root = tmp_path_factory.mktemp("tree")
    for name, data in {
        "secret.txt": b"secret",
        "index/meta.json": b"{}",
        "index/bundle.json": b'{"version": "1.0"}',
        "index/embeddings.i8bin": b"a" * 1000,
        "index/embeddings.i8bin.gz": gzip.compress(b"a" * 1000),
        "index/embeddings.i8bin.br": b"stands for brotli",
        "index/old.i8bin": b"newer than its .gz",
        "index/old.i8bin.gz": gzip.compress(b"of another file"),
        "index/image_encoder.onnx": b"onnx",
        "index/.build.lock": b"",
        "index/a b.js": b"1",
        "index/blank.html": BLANK,
        f"cards/{NAME}": b"picture",
        "cards/own/my card.jpg": b"own",
        "cards/list.jsonl.gz": b"list",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    os.utime(root / "index/old.i8bin.gz", (0, 0))
    (root / "index/outside.txt").symlink_to(root / "secret.txt")
    (root / "index/inside.json").symlink_to("meta.json")
    (root / "cards/outside.jpg").symlink_to(root / "secret.txt")
    (root / "index/loop").symlink_to("loop")
    return root


@pytest.fixture(scope="module")
def port(tree: Path) -> Iterator[int]:
    with serving_web(tree / "index", pictures=tree / "cards") as server:
        yield server.server_port


def get(port: int, path: str, method: str = "GET", **headers: str) -> Got:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return Got(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def test_the_page_and_the_index_are_one_tree(port: int) -> None:
    assert get(port, "/recogniser/errors.js").body == (WEB / "recogniser/errors.js").read_bytes()
    assert get(port, "/meta.json?v=1").body == b"{}"
    assert get(port, "/inside.json").body == b"{}"
    assert get(port, "/a%20b.js").body == b"1"
    assert get(port, f"/pictures/{NAME}").body == b"picture"
    assert get(port, "/meta.json").headers["x-pictures"] == "/pictures/"
    assert get(port, "/pictures/own/my%20card.jpg").body == b"own"


@pytest.mark.parametrize(
    "path",
    [
        *("/../secret.txt", "/%2e%2e/secret.txt", "/x/../../secret.txt", "/..%2fsecret.txt", "//etc/passwd"),
        *(
            "/outside.txt",
            "/pictures/outside.jpg",
            "/pictures/../secret.txt",
            "/.build.lock",
            "/recogniser/../../Makefile",
        ),
        *(
            "/pictures/list.jsonl.gz",
            "/pictures/",
            "/pictures",
            "/recogniser",
            "/none",
            "/loop",
            "/a%00b",
            "/..%5csecret",
        ),
        "/" + "a" * 5000,
    ],
)
def test_nothing_else_is_served(port: int, path: str) -> None:
    got = get(port, path)
    assert got.status == 404
    assert b"secret" not in got.body.replace(b"/secret", b"")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[bad", "192.168.0.2"])
def test_a_site_whose_name_leads_here_is_not_answered(port: int, host: str) -> None:
    assert get(port, "/meta.json", Host=host).status == 421
    assert get(port, f"/pictures/{NAME}", Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "cards.localhost:80"])
def test_this_machine_is_answered_by_each_of_its_names(port: int, host: str) -> None:
    assert get(port, "/meta.json", Host=host).status == 200


def test_a_server_for_other_machines_is_asked_by_any_name(tree: Path) -> None:
    from serve_web import Tree, listen

    with listen("0.0.0.0", 0, Tree((tree / "index",), None)) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert get(server.server_port, "/meta.json", Host="cards.example:8000").status == 200
        server.shutdown()


def test_no_other_page_may_frame_this_one(port: int) -> None:
    assert get(port, "/meta.json").headers["content-security-policy"] == "frame-ancestors 'none'"


def test_an_address_that_is_none_is_not_found(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET http://[bad/ HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert b" 404 " in connection.makefile("rb").readline()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/recogniser/errors.js", "text/javascript"),
        ("/embeddings.i8bin", "application/octet-stream"),
        ("/image_encoder.onnx", "application/octet-stream"),
        ("/meta.json", "application/json"),
        (f"/pictures/{NAME}", "image/png"),
    ],
)
def test_every_answer_has_its_type_and_what_threads_need(port: int, path: str, kind: str) -> None:
    for answer in (get(port, path), get(port, path, "HEAD")):
        assert answer.status == 200
        assert answer.headers["content-type"].partition(";")[0] == kind
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "credentialless"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert get(port, path, "HEAD").body == b""
    assert get(port, path, "HEAD").headers["content-length"] == str(len(get(port, path).body))


def test_what_has_not_changed_is_not_sent_again(tree: Path, port: int) -> None:
    first = get(port, "/meta.json")
    assert first.headers["cache-control"] == "no-cache"
    again = get(port, "/meta.json", If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    os.utime(tree / "index/meta.json", (1, 1))
    assert get(port, "/meta.json", If_None_Match=first.headers["etag"]).status == 200


def test_compressed_files_go_to_those_that_take_them(port: int) -> None:
    path = "/embeddings.i8bin"
    plain, packed = get(port, path), get(port, path, Accept_Encoding="deflate, gzip;q=0.5")
    assert (plain.body, plain.headers.get("content-encoding")) == (b"a" * 1000, None)
    assert (gzip.decompress(packed.body), packed.headers["content-encoding"]) == (plain.body, "gzip")
    assert packed.headers["content-type"] == plain.headers["content-type"]
    assert packed.headers["etag"] != plain.headers["etag"]
    assert get(port, path, Accept_Encoding="gzip, br, zstd").headers["content-encoding"] == "br"
    assert get(port, path, Accept_Encoding="br;q=0").body == plain.body
    assert gzip.decompress(get(port, path + ".gz", Accept_Encoding="gzip").body) == plain.body  # asked for by name
    assert get(port, "/old.i8bin", Accept_Encoding="gzip").body == b"newer than its .gz"


def test_the_address_comes_first_and_the_pictures_are_those_of_the_index(built: Built) -> None:
    words = [sys.executable, "scripts/serve_web.py", "--index", str(built.index), "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        try:
            assert address.startswith("http://127.0.0.1:")
            port = int(address.rstrip("/").rpartition(":")[2])
            url = built.records()[0]["image_url"]
            got = get(port, f"/pictures/{ImageCache.name_for(url)}")
            assert got.body == ImageCache(built.cache).path_for(url).read_bytes()
            assert get(port, "/build_manifest.json").status == 404
        finally:
            server.terminate()
    assert server.returncode == 143


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ([], "in use"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--host", "a" * 70 + ".example"], "label"),
        (["--cache", "none"], "there is no directory none"),
    ],
)
def test_why_it_can_not_serve_is_said_in_three_lines(tree: Path, flags: list[str], why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("--index", tree / "index", "--port", taken.getsockname()[1], *flags)
        done = run_script("scripts/serve_web.py", *words)
    *_, first, details, advice = done.stderr.splitlines()
    assert done.returncode == 1
    assert first.startswith("ERROR: Configuration Error: ")
    assert why in first + details
    assert advice.startswith("  Suggestion: ")


def test_without_libraries_it_serves_and_says_what_fetches_them(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import serve_web

    monkeypatch.setattr(serve_web, "WEB", tree / "none")
    monkeypatch.setattr(serve_web.Server, "serve_forever", lambda self: None)
    assert serve_web.main(["--index", str(tree / "index"), "--port", "0"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("http://127.0.0.1:")
    assert err.startswith("WARNING: ")
    assert "make vendor" in err


def test_of_an_index_only_what_clients_read_is_served(tmp_path: Path) -> None:
    from serve_web import Tree

    names = ["meta.json", "embeddings_whitened.i8bin.gz", "encoder-fp16.onnx", "evaluation.html", "other/bundle.json"]
    own = ["build_manifest.json", "mtg_meta.jsonl", "mtg_embeddings.npy", "notes.txt", "other/notes.txt.gz"]
    (tmp_path / "other").mkdir()
    for name in (*names, *own):
        (tmp_path / name).touch()
    tree = Tree((WEB,), None, tmp_path)
    assert [tree.find(f"/{name}") for name in names] == [tmp_path / name for name in names]
    assert [tree.find(f"/{name}") for name in own] == [None] * len(own)
    assert tree.find("/") == WEB / "index.html"


def test_a_file_that_an_export_has_just_removed_is_not_found(
    tree: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import serve_web

    monkeypatch.setattr(serve_web.Tree, "find", lambda self, address: tree / "index" / "gone.json")
    (tree / "index/gone.json.gz").write_bytes(b"not removed yet")
    assert get(port, "/gone.json", Accept_Encoding="gzip").status == 404


def test_a_page_may_use_threads(page: "Page", served: Served, tree: Path) -> None:
    page.goto(served(tree / "index") + "blank.html")
    assert page.evaluate("crossOriginIsolated && new SharedArrayBuffer(8).byteLength") == 8


NPM = """#!{python}
import shutil, sys
from pathlib import Path
if {fails!r}:
    sys.exit(print("npm error ENOTFOUND", file=sys.stderr) or 1)
name = sys.argv[2].replace("/", "-").replace("@", "") + ".tgz"
Path(sys.argv[sys.argv.index("--pack-destination") + 1], name).write_bytes(b"something else")
print(name)
"""


@pytest.mark.parametrize(
    ("fails", "first", "why"),
    [
        (True, "Network Error: npm can't fetch onnxruntime-web@", "ENOTFOUND"),
        (False, "Validation Error: npm's onnxruntime-web@", "expected sha512-"),
        (None, "Configuration Error: npm is needed", "No such file"),
    ],
)
def test_libraries_that_can_not_be_had_leave_no_trace(tmp_path: Path, fails: bool | None, first: str, why: str) -> None:
    npm, out = tmp_path / "bin" / "npm", tmp_path / "vendor"
    npm.parent.mkdir()
    if fails is not None:
        npm.write_text(NPM.format(python=sys.executable, fails=fails))
        npm.chmod(0o755)
    done = run_script("scripts/vendor_web.py", "--out", out, env=os.environ | {"PATH": str(npm.parent)})
    assert done.returncode == 1
    assert first in done.stderr
    assert why in done.stderr
    assert list(out.iterdir()) == []


def test_libraries_that_are_there_need_no_npm_and_damaged_ones_are_seen(tmp_path: Path) -> None:
    import vendor_web

    if not vendor_web.is_complete(WEB / "vendor"):
        pytest.skip("no web/vendor; run make vendor")
    done = run_script("scripts/vendor_web.py", env=os.environ | {"PATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    for file in (WEB / "vendor").iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert vendor_web.is_complete(tmp_path)
    (tmp_path / "opencv.js").unlink()
    (tmp_path / "opencv.js").write_bytes(b"damaged")
    assert not vendor_web.is_complete(tmp_path)
    manifest = json.loads((WEB / "vendor" / VENDORED).read_text())
    assert {file["path"] for file in manifest["files"]} >= {"opencv.js", "ort.wasm.bundle.min.mjs"}
