"""What builds, queries and exports do with whitened rows."""

import json
import shutil
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.index.store import StoredIndex
from helpers.recognise.query import how_searched
from tests.conftest import WHITENED_COUNT, Built, run_script, run_well

ROWS = WHITENED_COUNT


def rows_of(built: Built) -> NDArray[np.float32]:
    return np.asarray(np.load(built.index / "mtg_embeddings.npy"))


def by_hand(rows: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    """Rows as whitening.npz maps them."""
    found = np.load(folder / "whitening.npz")
    mapped = (rows - found["mean"]) @ found["axes"]
    return np.asarray(mapped / np.linalg.norm(mapped, axis=1, keepdims=True))


def first_match(built: Built, row: int, *flags: object) -> dict[str, Any]:
    picture = built.cache / built.records()[row]["image_url"]
    how = ("--detect", "off", "--read", "off", "--json", *flags)
    done = run_script("query_index.py", picture, "--index", built.index, *how)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def without_whitening(index: Path) -> None:
    """Change an index into one that a version before whitened rows built."""
    manifest = json.loads((index / "build_manifest.json").read_text())
    for name in ("whiten", "whiten_dim", "whiten_ridge"):
        del manifest["parameters"][name]
    del manifest["whitening"]
    manifest["recognition"] = {"hash_weight": 1.5, "whitening_ridge": 1.0, "sure_above": 0.5, "conditions": "of old"}
    for name in ("whitening.npz", "mtg_cards_whitened.faiss"):
        del manifest["sha256"][name]
        (index / name).unlink()
    (index / "build_manifest.json").write_text(json.dumps(manifest))


def test_faiss_alone_finds_rows_in_the_whitened_index(whitened: Built) -> None:
    manifest, rows = whitened.manifest(), rows_of(whitened)
    assert manifest["whitening"]["dimensions"] == rows.shape[1] // 2
    assert {"whitening.npz", "mtg_cards_whitened.faiss"} <= set(manifest["sha256"])
    index = faiss.read_index(str(whitened.index / "mtg_cards_whitened.faiss"))
    scores, found = index.search(rows, 3)  # vectors as the model makes them
    expected = by_hand(rows, whitened.index) @ by_hand(rows, whitened.index).T
    assert np.allclose(scores, -np.sort(-expected, axis=1)[:, :3], atol=1e-5)
    assert np.allclose(np.take_along_axis(expected, found, axis=1), scores, atol=1e-5)


@pytest.mark.parametrize("search", ["exact", "hnsw"])
@pytest.mark.parametrize("raw", [False, True])
def test_a_query_compares_whitened_vectors_unless_raw_ones_are_asked_for(
    whitened: Built, raw: bool, search: str
) -> None:
    flags = ("--search", search, *(["--raw"] if raw else []))
    answer = first_match(whitened, 5, *flags)
    rows = rows_of(whitened)
    rows = rows if raw else by_hand(rows, whitened.index)
    bits = np.unpackbits(np.load(whitened.index / "mtg_dhash.npy"), axis=1)
    weight = 2 if raw else whitened.manifest()["recognition"]["hash_weight"]
    scores = rows @ rows[5] - weight * (bits != bits[5]).mean(axis=1)
    (card,) = answer["cards"]
    assert answer["search"] == search
    assert [match["score"] for match in card["matches"]] == pytest.approx((-np.sort(-scores))[:5].tolist(), abs=2e-3)
    assert card["printings"] == card["matches"][:1]


def test_rows_are_compared_exactly_unless_that_is_slow(whitened: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, own = StoredIndex(IndexFolder(whitened.index)), whitened.manifest()["whitening"]["hnsw_ef_search"]
    assert how_searched(stored, "auto", None, whitened=True) == ("exact", own)
    assert how_searched(stored, "auto", 7, whitened=True) == ("hnsw", 7)
    monkeypatch.setattr("helpers.recognise.query.EXACT_UP_TO", stored.count * stored.width // 2)
    assert how_searched(stored, "auto", None, whitened=True)[0] == "exact"  # half as many dimensions
    assert how_searched(stored, "auto", None, whitened=False)[0] == "hnsw"
    assert how_searched(stored, "exact", None, whitened=False)[0] == "exact"


def test_a_query_is_sure_from_the_value_that_is_given(whitened: Built) -> None:
    for least in (0, 8):
        (card,) = first_match(whitened, 5, "--sure-above", least)["cards"]
        assert card["sure"] is (card["margin"] + card["gap"] >= least)


def test_a_build_without_whitening_leaves_none_and_is_answered(whitened: Built, tmp_path: Path) -> None:
    index = Path(shutil.copytree(whitened.index, tmp_path / "index"))
    words = ("--pictures", whitened.cache, "--table", whitened.cache / "cards.csv", "--limit", ROWS, "--out", index)
    done = run_script("build_embeddings.py", *words, "--no-whiten")
    assert f"{ROWS:,} reused" in done.stdout
    assert not {"whitening.npz", "mtg_cards_whitened.faiss"} & {path.name for path in index.iterdir()}
    plain = Built(whitened.cache, index, whitened.model)
    assert plain.manifest()["whitening"] is None
    assert first_match(plain, 5) == first_match(whitened, 5, "--raw")
    assert run_script("build_embeddings.py", *words).returncode == 0  # the flag is remembered
    assert plain.manifest()["whitening"] is None


def test_an_index_of_an_earlier_version_is_answered_and_told(whitened: Built, tmp_path: Path) -> None:
    index = Path(shutil.copytree(whitened.index, tmp_path / "index"))
    without_whitening(index)
    picture = whitened.cache / whitened.records()[5]["image_url"]
    done = run_script("query_index.py", picture, "--index", index, "--json", "--read", "off")
    assert done.returncode == 0
    assert "this index has no whitening: fewer cards are recognised" in done.stderr
    (card,) = json.loads(done.stdout)["cards"]
    raw = first_match(whitened, 5, "--raw")["cards"][0]
    assert (card["matches"], card["margin"], card["sure"]) == (raw["matches"], raw["margin"], raw["sure"])


@pytest.mark.parametrize("name", ["whitening.npz", "mtg_cards_whitened.faiss"])
def test_a_damaged_file_is_named(whitened: Built, tmp_path: Path, name: str) -> None:
    index = Path(shutil.copytree(whitened.index, tmp_path / "index"))
    (index / name).write_bytes((index / name).read_bytes()[:-7])
    picture = whitened.cache / whitened.records()[5]["image_url"]
    done = run_script("query_index.py", picture, "--index", index)
    assert done.returncode == 1
    assert f"{name} does not belong to this index" in done.stderr
    raw = run_script("query_index.py", picture, "--index", index, "--raw", "--read", "off")
    assert raw.returncode == 0  # which needs neither


def test_a_client_maps_vectors_and_finds_every_row_by_what_the_metadata_says(whitened: Built, tmp_path: Path) -> None:
    run_well("export_for_browser.py", "--input-dir", whitened.index, "--output-dir", tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text())
    vectors, transform = meta["whitening"]["vectors"], meta["whitening"]["transform"]
    count, narrow = vectors["shape"]
    wide = meta["shape"][1]
    codes = np.frombuffer((tmp_path / vectors["file"]).read_bytes(), np.int8).reshape(count, narrow)
    numbers = np.frombuffer((tmp_path / transform["file"]).read_bytes(), "<f4")
    mean, axes = numbers[:wide], numbers[wide:].reshape(wide, narrow)
    asked = (rows_of(whitened) - mean) @ axes
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    scores = asked @ (codes.astype(np.float32) / vectors["scale_factor"]).T
    assert np.array_equal(scores.argmax(axis=1), np.arange(count))
    assert np.allclose(scores, asked @ by_hand(rows_of(whitened), whitened.index).T, atol=0.02)
    assert len(codes.tobytes()) * 2 == (tmp_path / "embeddings.i8bin").stat().st_size


def test_an_index_without_whitening_is_exported_without_and_no_older_files_stay(
    whitened: Built, tmp_path: Path
) -> None:
    out, index = tmp_path / "out", Path(shutil.copytree(whitened.index, tmp_path / "index"))
    run_well("export_for_browser.py", "--input-dir", index, "--output-dir", out)
    assert (out / "whitening.f32bin").exists()
    without_whitening(index)
    run_well("export_for_browser.py", "--input-dir", index, "--output-dir", out)
    kept = ["bundle.json", "dhash.u8bin", "embeddings.i8bin", "meta.json"]
    assert sorted(path.name for path in out.iterdir()) == kept
    assert "whitening" not in json.loads((out / "meta.json").read_text())
