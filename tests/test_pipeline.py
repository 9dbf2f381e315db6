"""The whole way on real cards, as a user goes it, and the built-in sample."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from helpers.cards.image_cache import ImageCache
from tests.conftest import Built, run_script, run_well, serving
from tests.pictures import BROKEN
from tests.test_export import read_as_a_client


@pytest.mark.slow
def test_1050_real_cards_become_1050_rows(real_built: Built) -> None:
    assert len(real_built.records()) == 1050
    assert np.load(real_built.index / "mtg_embeddings.npy").shape == (1050, 512)
    assert real_built.manifest()["statistics"]["successful_embeddings"] == 1050


@pytest.mark.slow
def test_50_real_cards_asked_about_themselves_come_first(real_built: Built) -> None:
    records = real_built.records()
    rows = np.load(real_built.index / "mtg_embeddings.npy")
    row_of = {record["face_id"]: row for row, record in enumerate(records)}
    asked = random.Random(0).sample(range(len(records)), 50)
    paths = [ImageCache(real_built.cache).path_for(records[row]["image_url"]) for row in asked]
    done = run_script(
        *("query_index.py", "-", "--index", real_built.index, "--json", "--k", 1),
        input="".join(f"{path}\n" for path in paths),
    )
    assert done.returncode == 0
    for row, line in zip(asked, done.stdout.splitlines(), strict=True):
        (best,) = json.loads(line)["cards"][0]["matches"]
        assert best["score"] >= 0.99
        found = row_of[best["face_id"]]
        assert found == row or float(rows[found] @ rows[row]) >= 1 - 1e-6  # itself or an identical twin


@pytest.mark.slow
def test_a_client_finds_every_real_card(real_built: Built) -> None:
    decoded, records = read_as_a_client(real_built.index)
    rows = np.load(real_built.index / "mtg_embeddings.npy")
    exact, approximate = rows @ rows.T, rows @ decoded.T
    assert records == real_built.records()
    assert np.abs(approximate - exact).max() <= 0.02
    best = approximate.argmax(axis=1)
    itself_or_its_twin = exact[np.arange(len(rows)), best] >= 1 - 1e-6
    assert itself_or_its_twin.all()
    true_ten, found_ten = np.argsort(-exact, axis=1)[:, :10], np.argsort(-approximate, axis=1)[:, :10]
    recall = np.mean([len(set(t) & set(f)) / 10 for t, f in zip(true_ten, found_ten, strict=True)])
    print(
        f"int8 against float32, {len(rows):,} real rows of width {rows.shape[1]}: recall@10 {recall:.4f}, "
        f"largest score error {np.abs(approximate - exact).max():.4f}, first is itself {itself_or_its_twin.mean():.4f}"
    )
    assert recall >= 0.90


@pytest.mark.slow
def test_five_broken_pictures_of_a_hundred_cost_five_rows_and_no_other_its_name(
    many: Path, tiny: Path, tmp_path: Path
) -> None:
    cache, out, log = tmp_path / "cache", tmp_path / "out", tmp_path / "log"

    def asked() -> list[str]:
        paths = [json.loads(line)["path"] for line in log.read_text().splitlines() if '"GET"' in line]
        return [path for path in paths if path.startswith("/normal/")]

    with serving(many, "--log", log) as address:
        download = ("download_images.py", "--cache", cache, "--limit", 100, "--api-url", address)
        run_well(*download)
        files = {f"Card {i}": ImageCache(cache).path_for(address + path) for i, path in enumerate(sorted(asked()))}
        assert len(files) == 100
        victims = dict(zip(["Card 0", "Card 41", "Card 42", "Card 77", "Card 99"], BROKEN.values(), strict=True))
        for name, data in victims.items():
            files[name].write_bytes(data)

        build = run_script(
            *("build_embeddings.py", "--cache", cache, "--out", out, "--limit", 100),
            *("--model", f"local-dir:{tiny}", "--offline"),
        )
        assert build.returncode == 0, build.stderr
        assert "validation failures: 5" in build.stdout
        reasons = {name: line.partition(f"({name}): ")[2] for name in victims for line in build.stderr.splitlines()
                   if f"left out {files[name].name} ({name}): " in line}  # fmt: skip
        assert len(reasons) == len(set(reasons.values())) == 5
        whole = [name for name in files if name not in victims]
        assert np.load(out / "mtg_embeddings.npy").shape == (95, 512)
        assert [json.loads(line)["name"] for line in (out / "mtg_meta.jsonl").read_text().splitlines()] == whole
        done = run_script(
            *("query_index.py", "-", "--index", out, "--json", "--k", 1),
            input="".join(f"{files[name]}\n" for name in whole),
        )
        for name, line in zip(whole, done.stdout.splitlines(), strict=True):
            (best,) = json.loads(line)["cards"][0]["matches"]
            assert (best["name"], best["score"] >= 0.99) == (name, True)

        validate = ("scripts/validate_cache.py", "--cache", cache)
        done = run_script(*validate, "--report", tmp_path / "report.json")
        assert (done.returncode, "valid: 95 (95.0 %)" in done.stdout) == (1, True)
        failures = json.loads((tmp_path / "report.json").read_text())["failures"]
        named = {failure["filename"]: failure["reason"] for failure in failures}
        assert named == {files[name].name: reasons[name] for name in victims}
        assert run_script(*validate, "--fix").returncode == 1
        assert not [name for name in files if files[name].exists() == (name in victims)]
        assert run_script(*validate).returncode == 0
        before = len(asked())
        run_well(*download)
        assert {ImageCache(cache).path_for(address + path) for path in asked()[before:]} == {files[n] for n in victims}
        assert run_script(*validate).returncode == 0
