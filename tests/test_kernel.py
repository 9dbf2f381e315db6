"""web/recogniser/vectors.js in a real browser: both of its kernels find what numpy finds, number for number."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.artifacts import WEB
from tests.browser import BLANK, Served, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCALE = 127
KERNELS = ("simd", "plain")
SHAPES = ((1, 1), (1001, 1), (3, 7), (4099, 7), (8193, 64), (1001, 256), (333, 512), (5, 513), (7, 2048))
FIND = """async ({ rows, hashes, width, query, hash, count, plain, list }) => {
  const { createVectors } = await import("/recogniser/vectors.js");
  const bytes = (text) => {
    const letters = atob(text), found = new Uint8Array(letters.length);
    for (let i = 0; i < found.length; i++) found[i] = letters.charCodeAt(i);
    return found;
  };
  const all = bytes(rows), allHashes = bytes(hashes), half = Math.floor(all.length / width / 2);
  const options = { count: all.length / width, width, scale: 127, ...(plain ? { kernel: null } : {}) };
  const vectors = await createVectors(options);
  const asked = Float32Array.from(query);
  vectors.append(all.subarray(0, half * width));
  const before = vectors.nearest(asked, 1e9).rows.length;
  const room = vectors.room([half, options.count]);
  room.set(all.subarray(half * width));  // as a loader that needs no copy
  vectors.append(room);
  vectors.appendHashes(allHashes.subarray(0, 32 * half));
  vectors.appendHashes(allHashes.subarray(32 * half));
  const vectorsFound = vectors.nearest(asked, count), hashesFound = vectors.nearestHashes(bytes(hash), count);
  return {
    simd: vectors.simd, before, half,
    rows: [...vectorsFound.rows], scores: [...vectorsFound.scores],
    hashRows: [...hashesFound.rows], distances: [...hashesFound.distances],
    some: [...vectors.distances(list, bytes(hash))],
    cosines: [...vectors.cosines(list, asked)], floats: [...vectors.rows(list)],
  };
}"""


@pytest.fixture(scope="module")
def problems() -> list[str]:
    return []


@pytest.fixture(scope="module")
def page(browser: "Browser", problems: list[str], served: Served, tmp_path_factory: Any) -> "Iterator[Page]":
    """One page for all of these tests."""
    folder: Path = tmp_path_factory.mktemp("blank")
    (folder / "blank.html").write_bytes(BLANK)
    with opened(browser, problems) as page:
        page.goto(served(folder) + "blank.html")
        yield page
    assert problems == []


def text(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def find(
    page: "Page",
    rows: NDArray[np.int8],
    hashes: NDArray[np.uint8],
    query: NDArray[np.float32],
    *,
    count: int = 10,
    plain: bool = False,
) -> dict[str, Any]:
    """What the browser finds; the hash that is asked for is the first one with a bit inverted."""
    sent = {"rows": text(rows), "hashes": text(hashes), "width": rows.shape[1], "query": query.tolist(), "plain": plain}
    asked = {"hash": text(flipped(hashes)), "count": count, "list": [len(rows) - 1, 0]}
    found: dict[str, Any] = page.evaluate(FIND, sent | asked)
    return found


def flipped(hashes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    turned: NDArray[np.uint8] = hashes[0].copy()
    turned[0] ^= 1
    return turned


def unit(query: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(query / np.linalg.norm(query.astype(np.float64)), np.float32)


def quantised(query: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
    """The query as the kernel has it, and its factor."""
    magnitudes = np.abs(query.astype(np.float64))
    factor = min(32767 / magnitudes.max(), (2**24 - 1 - len(query) / 2) / sum(magnitudes.tolist()))
    return np.floor(query.astype(np.float64) * factor + 0.5).astype(np.int64), factor


def check(found: dict[str, Any], rows: NDArray[np.int8], hashes: NDArray[np.uint8], query: NDArray[np.float32]) -> None:
    """Numpy finds the same."""
    count, n = len(found["rows"]), len(rows)
    numbers, factor = quantised(query)
    dots = rows.astype(np.int64) @ numbers
    assert np.abs(rows.astype(np.int64)).dot(np.abs(numbers)).max() < 2**31
    order = np.lexsort((np.arange(n), -dots))[:count]
    assert found["rows"] == order.tolist()
    assert found["scores"] == (dots[order] / (factor * SCALE)).astype(np.float32).tolist()
    bits = np.unpackbits(hashes ^ flipped(hashes), axis=1).sum(axis=1, dtype=np.int64)
    order = np.lexsort((np.arange(n), bits))[:count]
    assert (found["hashRows"], found["distances"]) == (order.tolist(), bits[order].tolist())
    assert found["some"] == bits[[n - 1, 0]].tolist()
    picked = rows[[n - 1, 0]].astype(np.float64)
    assert found["floats"] == (picked / SCALE).astype(np.float32).ravel().tolist()
    np.testing.assert_allclose(found["cosines"], picked @ query.astype(np.float64) / SCALE, rtol=1e-6, atol=1e-7)


def test_the_kernel_is_what_its_source_says() -> None:
    wasmtime = pytest.importorskip("wasmtime", reason="needs wasmtime (requirements-dev.txt)")
    made = wasmtime.wat2wasm((WEB / "recogniser/kernel.wat").read_text())
    assert bytes(made) == (WEB / "recogniser/kernel.wasm").read_bytes(), "run make kernel"


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("n", "width"), SHAPES)
def test_both_kernels_find_what_numpy_finds(page: "Page", n: int, width: int, kernel: str) -> None:
    for seed, values in ((1, 128), (2, 2)):  # the second has ties everywhere
        rng = np.random.default_rng([seed, n, width])
        rows = rng.integers(-values, values, (n, width), dtype=np.int8)
        hashes = rng.integers(0, 256 if values > 2 else 2, (n, 32), dtype=np.uint8)
        query = unit(rng.standard_normal(width))
        found = find(page, rows, hashes, query, plain=kernel == "plain")
        assert found["simd"] == (kernel == "simd")
        assert found["before"] == found["half"]  # rows that have not come are not found
        assert len(found["rows"]) == min(10, n)
        check(found, rows, hashes, query)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("count", [0, 1, 4, 250, 10_000])
def test_any_number_may_be_asked_for(page: "Page", count: int, kernel: str) -> None:
    rng = np.random.default_rng(count)
    rows = rng.integers(-3, 4, (5001, 7), dtype=np.int8)
    hashes = rng.integers(0, 256, (5001, 32), dtype=np.uint8)
    query = unit(rng.standard_normal(7))
    found = find(page, rows, hashes, query, count=count, plain=kernel == "plain")
    assert len(found["rows"]) == min(count, 5001)
    check(found, rows, hashes, query)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("width", [512, 513, 1024, 2048])
def test_no_sum_overflows(page: "Page", width: int, kernel: str) -> None:
    """A flat query, beside rows that are as far out as int8 goes."""
    signs = np.where(np.random.default_rng(1).random(width) < 0.5, -1, 1)
    rows = np.stack([np.where(signs > 0, -128, 127), 127 * signs, 0 * signs])
    hashes = np.zeros((3, 32), np.uint8)
    query = unit(signs.astype(np.float32))
    found = find(page, rows.astype(np.int8), hashes, query, plain=kernel == "plain")
    assert found["rows"] == [1, 2, 0]
    assert abs(found["scores"][0] - np.sqrt(width)) < 1e-3 * np.sqrt(width)
    check(found, rows.astype(np.int8), hashes, query)


def test_a_query_of_zeros_or_nan_finds_the_first_rows(page: "Page") -> None:
    rows, hashes = np.ones((9, 3), np.int8), np.zeros((9, 32), np.uint8)
    for value in (0, np.nan):
        found = find(page, rows, hashes, np.full(3, value, np.float32), count=2)
        assert (found["rows"], found["scores"]) == ([0, 1], [0, 0])


@pytest.mark.parametrize(
    "hindrance",
    [
        "WebAssembly.validate = () => false",
        "WebAssembly.instantiate = () => Promise.reject(new WebAssembly.CompileError('blocked by a policy'))",
        "globalThis.fetch = () => Promise.reject(new TypeError('offline'))",
        "globalThis.fetch = () => Promise.resolve(new Response('', { status: 404 }))",
        "Object.defineProperty(globalThis, 'WebAssembly', { value: undefined })",
    ],
)
def test_plain_javascript_stands_in_where_the_kernel_does_not_work(page: "Page", hindrance: str) -> None:
    page.reload()
    page.evaluate(f"() => {{ {hindrance}; }}")
    rng = np.random.default_rng(5)
    rows, hashes = rng.integers(-9, 9, (33, 16), dtype=np.int8), rng.integers(0, 256, (33, 32), dtype=np.uint8)
    query = unit(rng.standard_normal(16))
    found = find(page, rows, hashes, query)
    page.reload()
    assert not found["simd"]
    check(found, rows, hashes, query)


@pytest.mark.parametrize("kernel", ["undefined", "null"])
@pytest.mark.parametrize("count", [2**30, 2**50])
def test_too_little_memory_is_said(page: "Page", kernel: str, count: int) -> None:
    code = page.evaluate(
        """async ({ count }) => {
          const { createVectors } = await import("/recogniser/vectors.js");
          const options = { count, width: 512, scale: 127, kernel: KERNEL };
          return createVectors(options).then(() => null, (error) => error.code);
        }""".replace("KERNEL", kernel),
        {"count": count},
    )
    assert code == "little-memory"
