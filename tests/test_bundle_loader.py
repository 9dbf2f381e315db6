"""web/recogniser/bundle.js in a real browser: files that are damaged, cut, missing or kept, and servers that fail."""

import gzip
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from serve_web import Handler, Server, Tree

from helpers.artifacts import WEB
from tests.browser import BLANK, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

COUNT, WIDTH = 10, 600
SHARDS = ((0, 4), (4, 8), (8, 10))
CONTENT = {
    "meta.json": b'{"records": []}',
    **{f"v{begin}.i8bin": bytes(range(begin, end)) * WIDTH for begin, end in SHARDS},
    "hashes.u8bin": b"h" * 32 * COUNT,
    "encoder.onnx": b"fp16 " * 2000,
    "small.onnx": b"\x1f\x8b looks like gzip and is none" * 100,
}
WORKER = """
import { openBundle } from "/recogniser/bundle.js";
const files = await openBundle("/bundle.json");
postMessage((await files.whole("hashes")).length);
"""
LOAD = """async ({role, precision, url}) => {
  try {
    const { openBundle } = await import("/recogniser/bundle.js");
    const files = await openBundle(url ?? "bundle.json");
    const told = [], parts = [];
    for await (const { file, bytes } of files.load(role, { precision, onProgress: (p) => told.push(p) })) {
      parts.push([file.path, Array.from(bytes)]);
    }
    await files.kept();
    return { told, parts, kept: (await (await caches.open("mtg-image-db-files")).keys()).map((key) => key.url) };
  } catch (error) {
    return error.code ? { error: { ...error.toJSON() } } : { failed: String(error) + error.stack };
  }
}"""


class Faulty(Handler):
    """The page's server; the next answers for a path can be faults."""

    faults: dict[str, list[str]]
    asked: "Counter[str]"
    go_on = threading.Event()  # ends the stalling

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.asked[name] += 1
        queue = self.faults.get(name) or self.faults.get("*") or []
        fault = queue.pop(0) if len(queue) > 1 else "".join(queue)  # the last one stays
        data = CONTENT.get(name, b"x" * 100)
        if fault == "stall":
            self.go_on.wait(10)  # whoever waits for it gets the answer
        if fault == "drop":
            raise ConnectionAbortedError
        if fault in ("404", "500"):
            self.send_error(int(fault))
        elif fault == "damaged":
            self.answer(b"X" + data[1:])
        elif fault == "short":
            self.answer(data[:-7])
        elif fault == "long":
            self.answer(data + b"7 bytes")
        elif fault == "cut":
            self.answer(data[: len(data) // 2], len(data))
            raise ConnectionAbortedError
        elif fault == "html":
            self.answer(BLANK)
        elif fault == "unpacked":  # as a server that names no Content-Encoding after having undone it
            self.answer(CONTENT[name.removesuffix(".gz")])
        else:
            super().do_GET()

    def answer(self, data: bytes, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(data)))
        self.end_headers()
        self.wfile.write(data)


class Site:
    """An export on a faulty server."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.url = folder, server.url
        self.faults, self.asked = Faulty.faults, Faulty.asked

    def export(self, **changes: Any) -> None:
        """Write bundle.json, with changes."""
        sizes = {name: {"path": name, "bytes": len(data), "sha256": sha(data)} for name, data in CONTENT.items()}
        packed = {
            name: {"gzip": {"path": f"{name}.gz", "bytes": (self.folder / f"{name}.gz").stat().st_size}}
            for name in ("encoder.onnx", "small.onnx")
        }
        files = [
            sizes["meta.json"] | {"role": "records", "rows": [0, COUNT]},
            *(sizes[f"v{b}.i8bin"] | {"role": "vectors", "rows": [b, e]} for b, e in reversed(SHARDS)),
            sizes["hashes.u8bin"] | {"role": "hashes", "rows": [0, COUNT]},
            sizes["encoder.onnx"] | packed["encoder.onnx"] | {"role": "encoder", "precision": "fp16"},
            sizes["small.onnx"] | packed["small.onnx"] | {"role": "encoder", "precision": "int8"},
        ]
        bundle = {"version": "1.0", "shape": [COUNT, WIDTH], "files": files}
        (self.folder / "bundle.json").write_text(json.dumps(bundle | changes))

    def update(self, *names: str) -> None:
        """Write bundle.json with other bytes for these files, which are new ones."""
        bundle = json.loads((self.folder / "bundle.json").read_text())
        for file in bundle["files"]:
            if file["path"] in names:
                data = changed(file["path"])
                file |= {"path": f"new-{file['path']}", "sha256": sha(data)}
                (self.folder / file["path"]).write_bytes(data)
        (self.folder / "bundle.json").write_text(json.dumps(bundle))


def changed(name: str) -> bytes:
    return bytes(byte ^ 1 for byte in CONTENT[name])


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("export")
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    (folder / "blank.html").write_bytes(BLANK)
    (folder / "worker.js").write_text(WORKER)
    Faulty.faults, Faulty.asked = {}, Counter()
    with Server(("127.0.0.1", 0), Tree((WEB, folder), None)) as server:
        server.RequestHandlerClass = partial(Faulty, tree=Tree((WEB, folder), None))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield Site(folder, server)
        Faulty.go_on.set()
        server.shutdown()


@pytest.fixture(scope="module")
def problems() -> list[str]:
    return []


@pytest.fixture(scope="module")
def page(browser: "Browser", problems: list[str]) -> "Iterator[Page]":
    """One page for all of these tests."""
    with opened(browser, problems) as page:
        yield page


@pytest.fixture
def site(shared_site: Site, page: "Page", problems: list[str]) -> Iterator[Site]:
    """An open page beside a whole export; the browser has kept nothing yet. In the end it must have no `problems`."""
    shared_site.faults.clear()
    shared_site.asked.clear()
    shared_site.export()
    page.goto(shared_site.url + "blank.html")
    page.evaluate("caches.delete('mtg-image-db-files')")
    yield shared_site
    assert problems == []


def load(page: "Page", role: str, **more: str) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(LOAD, {"role": role, **more})
    assert "failed" not in found, found
    return found


def content(found: dict[str, Any]) -> dict[str, bytes]:
    assert "error" not in found, found
    return {path: bytes(data) for path, data in found["parts"]}


def of(*names: str) -> dict[str, bytes]:
    return {name: CONTENT[name] for name in names}


def test_shards_come_in_the_order_of_their_rows_with_progress(page: "Page", site: Site) -> None:
    found = load(page, "vectors")
    assert [path for path, _ in found["parts"]] == [f"v{begin}.i8bin" for begin, _ in SHARDS]
    assert content(found) == of(*(f"v{begin}.i8bin" for begin, _ in SHARDS))
    told = found["told"]
    assert {(step["role"], step["total"]) for step in told} == {("vectors", COUNT * WIDTH)}
    assert [step["loaded"] for step in told] == sorted(step["loaded"] for step in told)
    assert told[-1]["loaded"] == COUNT * WIDTH
    assert len(told) >= len(SHARDS)


def test_the_first_shard_is_there_before_the_last_has_come(page: "Page", site: Site) -> None:
    site.faults["v8.i8bin"] = ["404"]
    first = page.evaluate("""async () => {
      const { openBundle } = await import("/recogniser/bundle.js");
      for await (const { file, bytes } of (await openBundle("bundle.json")).load("vectors")) return file.path;
    }""")
    assert first == "v0.i8bin"


@pytest.mark.parametrize("fault", [None, "unpacked", "damaged", "short", "404"])
def test_compressed_files_are_fetched_and_unpacked(
    page: "Page", site: Site, problems: list[str], fault: str | None
) -> None:
    if fault:
        site.faults["encoder.onnx.gz"] = [fault]
    found = load(page, "encoder", precision="fp16")
    if fault == "404":
        assert found["error"]["code"] == "no-bundle"
        problems.clear()
        return
    assert content(found) == of("encoder.onnx")
    assert site.asked["encoder.onnx.gz"] == 1
    assert site.asked["encoder.onnx"] == (fault in ("damaged", "short"))


def test_a_file_that_looks_compressed_and_is_not_is_taken_as_it_is(page: "Page", site: Site) -> None:
    site.faults["small.onnx.gz"] = ["unpacked"]
    assert content(load(page, "encoder", precision="int8")) == of("small.onnx")
    assert content(load(page, "encoder", precision="int8")) == of("small.onnx")
    assert site.asked["small.onnx"] == 1  # the second time it is kept


@pytest.mark.parametrize("fault", ["damaged", "short", "long", "html", "cut", "500", "drop"])
def test_what_fails_once_is_asked_for_again(page: "Page", site: Site, problems: list[str], fault: str) -> None:
    site.faults["hashes.u8bin"] = [fault, fault, ""] if fault == "drop" else [fault, ""]  # Chromium itself tries again
    assert content(load(page, "hashes")) == of("hashes.u8bin")
    problems.clear()


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ("damaged", "damaged", "SHA-256 is"),
        ("short", "wrong-size", "expected 320 bytes, got 313"),
        ("long", "wrong-size", "expected 320 bytes, got 327"),
        ("html", "wrong-size", "expected 320 bytes"),
        ("404", "no-bundle", "answered 404"),
        ("500", "network", "answered 500"),
        ("cut", "network", ""),
        ("drop", "network", ""),
    ],
)
def test_what_fails_again_is_told_in_three_lines_and_not_kept(
    page: "Page", site: Site, problems: list[str], fault: str, code: str, says: str
) -> None:
    site.faults["hashes.u8bin"] = [fault]
    error = load(page, "hashes")["error"]
    assert error["code"] == code
    assert "hashes.u8bin" in error["details"]
    assert says in error["details"]
    assert error["message"]
    assert error["suggestion"]
    site.faults.clear()
    assert content(load(page, "hashes")) == of("hashes.u8bin")
    problems.clear()


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [("404", "no-bundle", "404"), ("html", "no-bundle", "JSON"), ("drop", "network", ""), ("500", "network", "500")],
)
def test_a_bundle_that_can_not_be_had(
    page: "Page", site: Site, problems: list[str], fault: str, code: str, says: str
) -> None:
    site.faults["bundle.json"] = [fault]
    error = load(page, "hashes")["error"]
    assert error["code"] == code
    assert says in error["details"]
    assert site.url in error["details"]
    problems.clear()


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"version": "2.0"}, "wrong-version", '"2.0"'),
        ({"version": None}, "wrong-version", "null"),
        ({"shape": [COUNT, WIDTH + 1]}, "wrong-size", "2400 bytes for 4 rows of 601 bytes"),
        ({"shape": [COUNT + 1, WIDTH]}, "wrong-size", "have 10 rows, not 11"),
        ({"shape": "10x600"}, "wrong-size", "shape"),
        ({"files": []}, "wrong-size", "0 files"),
        ({"files": [{"path": "x", "role": "hashes", "bytes": 1}]}, "wrong-size", "SHA-256"),
    ],
)
def test_a_bundle_that_is_not_ours_or_contradicts_itself(
    page: "Page", site: Site, changes: dict[str, Any], code: str, says: str
) -> None:
    site.export(**changes)
    error = load(page, "hashes")["error"]
    assert (error["code"], says in error["details"]) == (code, True), error


def test_what_was_not_exported_is_said(page: "Page", site: Site) -> None:
    assert load(page, "encoder", precision="fp32")["error"]["code"] == "no-encoder"
    assert load(page, "whitened")["error"]["code"] == "no-bundle"


def test_offline_after_the_first_visit(page: "Page", site: Site, problems: list[str]) -> None:
    for role in ("vectors", "hashes"):
        load(page, role)
    asked = site.asked.copy()
    site.faults["*"] = ["drop"]
    assert content(load(page, "vectors")) == of(*(f"v{begin}.i8bin" for begin, _ in SHARDS))
    assert content(load(page, "hashes")) == of("hashes.u8bin")
    assert {name for name in site.asked if site.asked[name] > asked[name]} == {"bundle.json"}
    assert load(page, "encoder", precision="fp16")["error"]["code"] == "network"
    problems.clear()


@pytest.mark.parametrize("fault", ["html", "cut", "stall"])
def test_a_network_that_answers_for_another_leaves_what_is_kept(
    page: "Page", site: Site, problems: list[str], fault: str
) -> None:
    load(page, "hashes")
    site.update("hashes.u8bin")
    page.evaluate("() => { const wait = setTimeout; setTimeout = (act, ms) => wait(act, ms / 100); }")  # less patience
    for now in (fault, "drop"):
        site.faults["bundle.json"] = [now]
        assert content(load(page, "hashes")) == of("hashes.u8bin")
    problems.clear()


def test_an_update_that_is_cut_off_leaves_the_old_version(page: "Page", site: Site, problems: list[str]) -> None:
    vectors = of(*(f"v{begin}.i8bin" for begin, _ in SHARDS))
    for role in ("vectors", "hashes"):
        load(page, role)
    site.update("hashes.u8bin", "v8.i8bin")
    load(page, "hashes")  # and no more: the page is closed
    site.faults["*"] = ["drop"]
    assert content(load(page, "vectors")) == vectors
    assert content(load(page, "hashes")) == of("hashes.u8bin")
    site.faults.clear()
    kept = load(page, "vectors")["kept"]
    load(page, "hashes")
    new = {"new-hashes.u8bin": changed("hashes.u8bin"), "new-v8.i8bin": changed("v8.i8bin")}
    now = {*vectors.values(), *new.values()} - {CONTENT["v8.i8bin"]}
    assert {url.rpartition("/")[2] for url in kept} == {"bundle.json", *map(sha, now)}
    assert [site.asked[name] for name in ("hashes.u8bin", "v0.i8bin", *new)] == [1, 1, 1, 1]
    site.faults["*"] = ["drop"]
    assert content(load(page, "hashes")) == {"new-hashes.u8bin": new["new-hashes.u8bin"]}
    problems.clear()


def test_where_there_is_no_room_for_two_versions_the_new_one_is_kept(page: "Page", site: Site) -> None:
    for role in ("records", "hashes"):
        load(page, role)
    site.update("hashes.u8bin", "meta.json")
    page.evaluate("""() => {
      const put = Cache.prototype.put;
      Cache.prototype.put = async function (key, answer) {
        const files = (await this.keys()).filter(({ url }) => url.includes("/sha256/"));
        if (files.length > 1 && String(key).includes("/sha256/")) throw new DOMException("full", "QuotaExceededError");
        return put.call(this, key, answer);
      };
    }""")
    kept = load(page, "hashes")["kept"]
    assert {url.rpartition("/")[2] for url in kept} == {"bundle.json", sha(changed("hashes.u8bin"))}


def test_a_kept_file_that_is_damaged_is_fetched_again(page: "Page", site: Site) -> None:
    load(page, "hashes")
    page.evaluate("""async () => {
      const cache = await caches.open("mtg-image-db-files");
      const files = (await cache.keys()).filter((key) => key.url.includes("sha256"));
      for (const key of files) await cache.put(key, new Response("rotten"));
    }""")
    assert content(load(page, "hashes")) == of("hashes.u8bin")
    assert site.asked["hashes.u8bin"] == 2
    load(page, "hashes")
    assert site.asked["hashes.u8bin"] == 2


def test_what_no_bundle_lists_any_more_is_deleted(page: "Page", site: Site) -> None:
    kept = load(page, "hashes")["kept"]
    assert {url.rpartition("/")[2] for url in kept} == {"bundle.json", sha(CONTENT["hashes.u8bin"])}
    data = {"path": "meta.json", "bytes": len(CONTENT["meta.json"]), "sha256": sha(CONTENT["meta.json"])}
    site.export(files=[data | {"role": "records", "rows": [0, COUNT]}])
    kept = load(page, "records")["kept"]
    assert {url.rpartition("/")[2] for url in kept} == {"bundle.json", sha(CONTENT["meta.json"])}


@pytest.mark.parametrize(
    "hindrance",
    [
        "delete globalThis.caches; Object.defineProperty(globalThis, 'caches', {value: undefined})",
        "CacheStorage.prototype.open = () => Promise.reject(new DOMException('private', 'SecurityError'))",
        "Cache.prototype.put = () => Promise.reject(new DOMException('full', 'QuotaExceededError'))",
        "DecompressionStream = undefined",
    ],
)
def test_a_browser_that_keeps_nothing_works_all_the_same(page: "Page", site: Site, hindrance: str) -> None:
    page.evaluate(f"() => {{ {hindrance}; }}")
    length = page.evaluate("""async () => {
      const { openBundle } = await import("/recogniser/bundle.js");
      const files = await openBundle("bundle.json");
      const { length } = await files.whole("encoder", { precision: "fp16" });
      await files.kept();
      return length;
    }""")
    assert length == len(CONTENT["encoder.onnx"])


@pytest.mark.parametrize(
    ("hindrance", "code"),
    [
        ("Object.defineProperty(crypto, 'subtle', {value: undefined})", "insecure"),
        (
            "globalThis.Uint8Array = class { constructor() { throw new RangeError('Array buffer allocation'); } }",
            "little-memory",
        ),
    ],
)
def test_what_a_browser_lacks_is_said(page: "Page", site: Site, hindrance: str, code: str) -> None:
    page.evaluate(f"() => {{ {hindrance}; }}")
    assert load(page, "hashes")["error"]["code"] == code


def test_rows_go_straight_into_the_memory_that_is_searched(page: "Page", site: Site) -> None:
    site.faults["v4.i8bin"] = ["damaged", ""]  # what was wrong is written over
    found = page.evaluate(
        """async ({ width }) => {
          const { openBundle } = await import("/recogniser/bundle.js");
          const { createVectors } = await import("/recogniser/vectors.js");
          const files = await openBundle("bundle.json");
          const vectors = await createVectors({ count: files.bundle.shape[0], width, scale: 127 });
          const inPlace = [];
          for await (const { bytes } of files.load("vectors", { into: ({ rows }) => vectors.room(rows) })) {
            inPlace.push(bytes.buffer === vectors.buffer);
            vectors.append(bytes);
          }
          const query = new Float32Array(width).fill(1 / Math.sqrt(width));
          return { inPlace, rows: [...vectors.nearest(query, 20).rows] };
        }""",
        {"width": WIDTH},
    )
    assert found == {"inPlace": [True] * len(SHARDS), "rows": [8, 9, 4, 5, 6, 7, 0, 1, 2, 3]}  # a shard's are alike


def test_it_works_in_a_worker(page: "Page", site: Site) -> None:
    length = page.evaluate("""() => new Promise((resolve, reject) => {
      const worker = new Worker("/worker.js", { type: "module" });
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => reject(event.message);
    })""")
    assert length == len(CONTENT["hashes.u8bin"])
