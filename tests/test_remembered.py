"""Flags that are not given are those of the last build and download, and a refresh brings all up to date."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Built, run_script, run_well, serving
from tests.pictures import encoded, write

HEADER = "file,name,set,collector_number,scryfall_id"


def shelf(folder: Path, numbers: range) -> Path:
    """A table of small cards: those from 10 on are of the set two."""
    rows = [f"{n}.jpg,Card {n},{'one' if n < 10 else 'two'},{n},id-{n:02}" for n in numbers]
    for n in numbers:
        if not (folder / f"{n}.jpg").exists():
            write(folder / f"{n}.jpg", encoded(seed=n))
    return write(folder / "cards.csv", "\n".join([HEADER, *rows]).encode())


def manifest(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "build_manifest.json").read_text()))


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> Path:
    """A copy of the index beside the cache it was built from."""
    shutil.copytree(built.cache, tmp_path / "cache")
    return Path(shutil.copytree(built.index, tmp_path / "index"))


def test_a_build_over_an_index_takes_its_flags(built: Built, copied: Path, tmp_path: Path) -> None:
    done = run_script("build_embeddings.py", "--out", copied, "--hnsw-m", 8, "--offline", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"As the index in {copied}: --cache cache --model local-dir:{built.model}\n" in done.stderr
    assert "--hnsw-m 8 --hnsw-ef-construction 200 (there: --hnsw-m 32 --hnsw-ef-construction 200)" in done.stderr
    before = json.loads((built.index / "build_manifest.json").read_text())
    assert manifest(copied)["model"] == before["model"]
    assert manifest(copied)["parameters"]["hnsw_m"] == 8  # type: ignore[index]

    again = run_script("build_embeddings.py", "--out", copied, "--offline", cwd=tmp_path)
    assert f"As the index in {copied}: --cache" in again.stderr
    assert f"{copied} is up to date" in again.stdout
    assert "0 new, 0 changed, 0 gone" in again.stdout


def test_what_is_given_wins_and_flags_that_belong_together_go_together(built: Built, copied: Path) -> None:
    words = ("--cache", built.cache, "--out", copied, "--model", f"local-dir:{built.model}", "--offline")
    done = run_script("build_embeddings.py", *words, "--kind", "all_cards")
    assert done.returncode == 1  # that list was never downloaded
    assert "Unlike the index" in done.stderr
    assert "--kind all_cards --image-key normal (there: --kind unique_artwork --image-key normal)" in done.stderr


def test_a_build_over_a_cache_takes_the_flags_of_its_download(tmp_path: Path, tiny: Path) -> None:
    cache, words = tmp_path / "cache", ("--model", f"local-dir:{tiny}", "--offline", "--cache", tmp_path / "cache")
    with serving(shelf(tmp_path, range(5, 15))) as address:
        run_well("download_images.py", "--cache", cache, "--api-url", address, "--set", "two", "--kind", "all_cards")
    done = run_script("build_embeddings.py", *words, "--out", tmp_path / "out")
    assert f"As {cache} was downloaded: --kind all_cards --image-key normal --set two" in done.stderr
    assert "Total faces: 5\n  missing from the cache: 0" in done.stdout

    report = json.loads((cache / "download_report.json").read_text())
    (cache / "download_report.json").write_text(json.dumps(report | {"filters": {}}))
    done = run_script("build_embeddings.py", *words, "--out", tmp_path / "out")
    assert f"WARNING: {cache} was last downloaded with --kind all_cards --image-key normal;" in done.stderr
    assert "Total faces: 5" in done.stdout  # as the index


def test_a_trial_with_a_limit_does_not_limit_what_comes_after_it(tmp_path: Path, tiny: Path) -> None:
    words = ("--model", f"local-dir:{tiny}", "--cache", tmp_path / "cache", "--out", tmp_path / "out")
    with serving(shelf(tmp_path, range(10))) as address:
        run_well("download_images.py", "--cache", tmp_path / "cache", "--api-url", address, "--limit", 3)
        assert "Total faces: 3\n" in run_well("build_embeddings.py", *words)
        assert "Total faces: 10\n" in run_well("build_mtg_faiss.py", *words)


def test_an_index_keeps_all_its_cards_after_somebody_tried_a_few(built: Built, copied: Path, tmp_path: Path) -> None:
    report = tmp_path / "cache" / "download_report.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"limit": 3}))
    done = run_script("build_embeddings.py", "--out", copied, "--offline")
    assert f"{copied} is up to date" in done.stdout


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x" * path.stat().st_size)])
def test_an_index_that_lost_a_file_is_not_up_to_date(damage: Callable[[Path], object], copied: Path) -> None:
    index = copied / "mtg_cards.faiss"
    before = index.read_bytes()
    damage(index)
    done = run_script("build_embeddings.py", "--out", copied, "--offline")
    assert (done.returncode, f"Written to {copied}" in done.stdout) == (0, True)
    assert index.read_bytes() == before


def test_after_a_kill_in_the_swap_the_flags_are_still_known(built: Built, copied: Path) -> None:
    swap = copied / "build_manifest.json.swap"
    swap.mkdir()
    for name in ("mtg_cards.faiss", "build_manifest.json"):
        (copied / name).rename(swap / name)
    done = run_script("build_embeddings.py", "--out", copied, "--offline")
    assert (done.returncode, f"{copied} is up to date" in done.stdout) == (0, True)
    assert "--model local-dir:" in done.stderr


def test_a_model_that_was_moved_is_named_anew(built: Built, copied: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(built.model, tmp_path / built.model.name))
    assert run_script("build_embeddings.py", "--out", copied, "--model", f"local-dir:{moved}").returncode == 0
    assert manifest(copied)["model"]["name"] == f"local-dir:{moved}"  # type: ignore[index]


def test_where_the_pictures_are_is_known_through_links_and_told_if_they_are_gone(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    link = tmp_path / "deep" / "er" / "link"
    link.symlink_to(copied)
    done = run_script("build_embeddings.py", "--out", link, "--offline", cwd=tmp_path / "deep")
    assert done.returncode == 0, done.stderr
    assert "--cache " + str(tmp_path / "cache") in done.stderr
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    done = run_script("build_embeddings.py", "--out", copied, "--offline")
    assert (done.returncode, f"there is no directory {tmp_path / 'cache'}" in done.stderr) == (3, True)
    done = run_script("build_mtg_faiss.py", "--out", copied, "--offline")
    assert (done.returncode, f"{copied} was built from {tmp_path / 'cache'}" in done.stderr) == (1, True)
    assert not (tmp_path / "cache").exists()


def test_an_index_that_does_not_say_where_its_cache_is_may_be_downloaded_for(copied: Path, tmp_path: Path) -> None:
    made = manifest(copied)
    made["parameters"]["cache"] = None  # type: ignore[index]  # as an older version wrote it
    (copied / "build_manifest.json").write_text(json.dumps(made))
    done = run_script("build_mtg_faiss.py", "--out", copied, "--offline", cwd=tmp_path)
    assert (done.returncode, "there is no unique_artwork list in image_cache" in done.stderr) == (1, True)


def test_an_old_export_is_told_until_it_is_renewed(copied: Path) -> None:
    run_well("export_for_browser.py", "--input-dir", copied, "--output-dir", copied)
    for flags, is_old in (([], False), (["--hnsw-m", "8"], True), ([], True)):
        done = run_script("build_embeddings.py", "--out", copied, "--offline", *flags)
        assert ("the browser files" in done.stderr) == is_old


def test_a_refresh_says_what_changed_and_then_has_nothing_to_do(tmp_path: Path, tiny: Path) -> None:
    out, words = tmp_path / "out", ("--newest", "--export", "--out", tmp_path / "out")
    first = ("--model", f"local-dir:{tiny}", "--cache", tmp_path / "cache")
    with serving(shelf(tmp_path, range(12))) as address:
        run_well("build_mtg_faiss.py", *words, *first, "--api-url", address)
    write(tmp_path / "3.jpg", encoded(seed=99))  # scanned anew: Scryfall gives it a new address
    with serving(shelf(tmp_path, range(2, 15)), "--port", address.rpartition(":")[2]):
        said = run_well("build_mtg_faiss.py", *words, cwd=tmp_path)
        assert "Since the last build: 3 new, 1 changed, 2 gone (two: +3; one: ~1 -2)" in said
        assert re.search(r"embedded: 13 \(4 now.*, 9 reused", said)
        before = manifest(out)["timestamp"]
        said = run_well("build_mtg_faiss.py", *words, cwd=tmp_path)
    assert "Since the last build: 0 new, 0 changed, 0 gone" in said
    assert f"{out} is up to date" in said
    assert manifest(out)["timestamp"] == before
    assert json.loads((out / "meta.json").read_text())["built"] == before
    done = run_script("build_mtg_faiss.py", *words, cwd=tmp_path)
    assert (done.returncode, f"{address} can't be reached" in done.stderr) == (1, True)
    assert manifest(out)["timestamp"] == before


@pytest.mark.parametrize(
    ("flags", "better"),
    [
        (["--set", "two"], "default_cards"),
        (["--kind", "oracle_cards", "--games", "arena"], "default_cards"),
        (["--lang", "de"], "all_cards"),
        (["--kind", "default_cards", "--lang", "de"], "all_cards"),
        (["--kind", "default_cards", "--set", "two"], None),
        (["--kind", "all_cards", "--lang", "de", "--set", "two"], None),
        (["--lang", "en"], None),  # leaves nothing out here
    ],
)
def test_a_filter_that_may_lose_cards_is_told(flags: list[str], better: str | None, tmp_path: Path) -> None:
    with serving(shelf(tmp_path, range(8, 12))) as address:
        done = run_script("download_images.py", "--cache", tmp_path / "cache", "--api-url", address, *flags)
    assert ("has only one" in done.stderr) == (better is not None)
    if better:
        assert f"--kind {better} has every one" in done.stderr


def test_a_card_without_a_number_gets_none_and_no_link(tmp_path: Path, tiny: Path) -> None:
    table = shelf(tmp_path, range(2))
    table.write_text(table.read_text().replace("one,1,", "one,,"))
    words = ("--cache", tmp_path / "cache", "--out", tmp_path / "out", "--model", f"local-dir:{tiny}")
    with serving(table) as address:
        run_well("build_mtg_faiss.py", *words, "--api-url", address)
    zero, one = map(json.loads, (tmp_path / "out" / "mtg_meta.jsonl").read_text().splitlines())
    assert (zero["collector_number"], zero["scryfall_uri"]) == ("0", "https://scryfall.com/card/one/0")
    assert (one["collector_number"], one["scryfall_uri"]) == ("", None)
    done = run_script(
        "query_index.py", tmp_path / "1.jpg", "--index", tmp_path / "out", "--detect", "off", "--read", "off"
    )
    assert "[ONE]" in done.stdout
    assert "[ONE ]" not in done.stdout
