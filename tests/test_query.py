"""query_index.py as users and programs run it."""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import query_index
from helpers.artifacts import IndexFolder
from helpers.cards.faces import CardFace
from helpers.cards.image_cache import ImageCache
from helpers.errors import PipelineError
from helpers.index.store import StoredIndex
from helpers.recognise.query import Answer, Card, Match, QueryEngine
from tests.conftest import ROOT, Built, run_script, without_hashes
from tests.pictures import HTML, claiming_to_be, encoded, write
from tests.warm_python import WarmProcess

CARD_FIELDS = [
    *("quad", "orientation", "margin", "gap", "sure", "confidence", "matches", "printings", "printing_sure", "read"),
    "verified",
]
MATCH_FIELDS = [
    *("rank", "score", "name", "set", "collector_number", "scryfall_id", "face_id", "image_url", "scryfall_uri"),
    *("card_name", "oracle_id", "illustration_id", "lang", "card_url", "artist"),
]


def picture_of(built: Built, row: int) -> Path:
    return ImageCache(built.cache).path_for(built.records()[row]["image_url"])


UNREAD = ("--read", "off")  # a tiny model is hardly ever sure, so that print would be read on each picture: seconds


def ask(built: Built, *arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    how = () if {"--name", "--text"} & set(arguments) else UNREAD
    return run_script("query_index.py", *how, *arguments, "--index", built.index, **more)


def answers(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def test_an_image_asked_about_itself_is_first(built: Built) -> None:
    done = ask(built, *(picture_of(built, row) for row in range(13)), "--json", "--k", 1, "--detect", "off")
    assert done.returncode == 0
    matches = [answer["cards"][0]["matches"][0] for answer in answers(done.stdout)]
    assert [match["name"] for match in matches] == [record["name"] for record in built.records()]
    assert all(match["score"] >= 0.99 for match in matches)


def test_json_has_the_form_of_the_contract(built: Built) -> None:
    done = ask(built, picture_of(built, 4), "--json", "--read", "auto")
    (answer,) = answers(done.stdout)
    assert list(answer) == ["image", "metric", "ef_search", "search", "cards"]
    assert answer["image"] == str(picture_of(built, 4))
    assert answer["metric"] == "inner_product"
    assert answer["ef_search"] == built.manifest()["parameters"]["hnsw_ef_search"]
    (card,) = answer["cards"]
    assert list(card) == CARD_FIELDS
    assert (card["quad"], card["orientation"], card["sure"]) == (None, 0, True)
    assert len(card["matches"]) == 5
    assert all(list(match) == MATCH_FIELDS for match in card["matches"])
    assert [match["rank"] for match in card["matches"]] == [1, 2, 3, 4, 5]
    scores = [match["score"] for match in card["matches"]]
    assert scores == sorted(scores, reverse=True)
    records = {record["face_id"]: record for record in built.records()}
    for match in card["matches"]:
        assert {key: records[match["face_id"]][key] for key in MATCH_FIELDS[2:]}.items() <= match.items()


def test_the_table_shows_metric_scores_names_sets_numbers_and_links(built: Built) -> None:
    record = built.records()[2]
    done = ask(built, picture_of(built, 2), "--ef-search", 77, "--k", 2)
    assert done.returncode == 0
    for words in (
        "inner_product",
        "efSearch 77",
        "1.0000",
        record["name"],
        record["set"].upper(),
        record["scryfall_uri"],
    ):
        assert words in done.stdout
    assert f"[{record['set'].upper()} {record['collector_number']}]" in done.stdout


def test_what_can_not_be_answered_is_said_and_the_others_are_answered(built: Built, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    reasons = {
        write(tmp_path / "page.jpg", HTML): "it is an HTML or XML page",
        write(tmp_path / "cut.png", encoded("PNG")[:60]): "damaged picture",
        write(tmp_path / "half.jpg", encoded(seed=5)[: len(encoded(seed=5)) // 2]): "damaged picture",
        write(tmp_path / "empty.jpg", b""): "empty file",
        write(tmp_path / "large.png", claiming_to_be(20_000, 20_000, "PNG")): "20000x20000 pixels exceed the limit",
        write(tmp_path / "large.jpg", claiming_to_be(20_000, 20_000, "JPEG")): "20000x20000 pixels exceed the limit",
        write(tmp_path / "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'): "it is an SVG drawing",
        tmp_path / "nothing.jpg": "no such file",
        tmp_path / "none": "no pictures in it",
        Path("/dev/null"): "not a regular file",
    }
    done = ask(built, *reasons, picture_of(built, 0), "--json")
    assert done.returncode == 2
    *found, last = answers(done.stdout)
    assert [answer["image"] for answer in found] == [str(image) for image in reasons]
    for answer, reason in zip(found, reasons.values(), strict=True):
        assert reason in answer["error"]
        assert "\n" not in answer["error"]
        assert "cards" not in answer
    assert last["cards"][0]["matches"][0]["name"] == built.records()[0]["name"]
    table = ask(built, next(iter(reasons)), picture_of(built, 0))
    assert table.returncode == 2
    assert "ERROR: Validation Error: a picture could not be answered" in table.stderr
    assert built.records()[0]["name"] in table.stdout


@pytest.mark.parametrize("vote", [[], ["--vote"]])
def test_pictures_that_are_not_there_are_told_before_the_model_is_loaded(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, vote: list[str]
) -> None:
    monkeypatch.setattr(QueryEngine, "load", None)
    (tmp_path / "none").mkdir()
    words = [str(tmp_path / "a.jpg"), str(tmp_path / "none"), "--json", "--index", str(built.index), *vote]
    assert query_index.main(words) == 2
    found = answers(capsys.readouterr().out)
    found = found[0]["left_out"] if vote else found
    assert [answer["error"] for answer in found] == ["no such file", "no pictures in it"]


def test_photographs_of_every_kind_are_answered(built: Built, tmp_path: Path) -> None:
    card = Image.open(picture_of(built, 0)).convert("RGB")
    kinds: dict[str, Image.Image] = {
        **dict.fromkeys(("a.jpeg", "a.bmp", "a.tif", "a.webp", "a.gif", "a.mpo"), card),
        "cmyk.jpg": card.convert("CMYK"),
        "deep.png": Image.fromarray(np.asarray(card.convert("L")).astype(np.uint16) << 8),
        "1x1.png": Image.new("RGB", (1, 1)),
    }
    if importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
        kinds["a.heic"] = card
    for name, picture in kinds.items():
        frames: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", card.size)]}
        picture.save(tmp_path / name, **frames if name in ("a.gif", "a.webp", "a.mpo") else {})
    done = ask(built, tmp_path, "--json", "--k", 1, "--detect", "off")
    assert done.returncode == 0, done.stdout
    found = {Path(answer["image"]).name: answer["cards"][0]["matches"][0]["name"] for answer in answers(done.stdout)}
    assert found.keys() == kinds.keys()
    assert {found[name] for name in kinds if name not in ("1x1.png", "deep.png")} == {built.records()[0]["name"]}


def test_the_error_for_heic_without_its_plugin_says_what_to_install(tmp_path: Path) -> None:
    heic = write(tmp_path / "a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    code = (
        "import sys; from pathlib import Path; sys.modules['pillow_heif'] = None\n"
        "from helpers.validation import read_photo; read_photo(Path(sys.argv[1]))"
    )
    words = [sys.executable, "-c", code, str(heic)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("it is HEIC; to read that: pip install pillow-heif")


def test_a_directory_stands_for_its_pictures_by_name(built: Built, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("b.jpg", "a.JPG", "below/c.jpg", ".hidden.jpg", "notes.txt"):
        shutil.copy(picture_of(built, 0), tmp_path / name)
    done = ask(built, tmp_path, "--json")
    assert [answer["image"] for answer in answers(done.stdout)] == [
        str(tmp_path / name) for name in ("a.JPG", "b.jpg", "below/c.jpg")
    ]
    assert "3 pictures in " in done.stderr
    assert "pictures/s" in done.stderr


def test_matches_below_the_least_score_are_left_out(built: Built, tmp_path: Path) -> None:
    noise = write(tmp_path / "noise.png", encoded("PNG"))
    done = ask(built, picture_of(built, 0), noise, "--min-score", 0.99, "--json")
    first, other = answers(done.stdout)
    assert done.returncode == 0
    assert [match["name"] for match in first["cards"][0]["matches"]] == [built.records()[0]["name"]]
    assert other["cards"] == []
    assert "no card" in ask(built, noise, "--min-score", 0.99, "--detect", "off").stdout


def test_it_says_whether_a_card_was_found(built: Built) -> None:
    said = "no card found: the whole picture was asked"
    assert said in ask(built, picture_of(built, 0)).stdout
    assert said not in ask(built, picture_of(built, 0), "--detect", "off").stdout


def test_a_page_shows_the_picture_and_its_matches(built: Built, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    asked = (picture_of(built, 2), write(tmp_path / "broken.jpg", HTML))
    done = ask(built, *asked, "--html", page, "--cache", built.cache, "--k", 2)
    assert done.returncode == 2
    text = page.read_text(encoding="utf-8")
    assert text.count("<section>") == 2
    assert text.count("data:image/jpeg") == 4  # the picture, its card, two matches
    assert "it is an HTML or XML page" in text
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_pictures_of_one_card_vote_for_one_answer(built: Built, tmp_path: Path) -> None:
    frames = [shutil.copy(picture_of(built, 3), tmp_path / f"{i}.jpg") for i in range(2)]
    broken = write(tmp_path / "broken.jpg", HTML)
    done = ask(built, tmp_path, "--vote", "--json", "--k", 2)
    assert done.returncode == 2
    (answer,) = answers(done.stdout)
    assert list(answer) == ["images", "metric", "ef_search", "search", "cards", "left_out"]
    assert answer["images"] == [*map(str, frames), str(broken)]
    assert [one["image"] for one in answer["left_out"]] == [str(broken)]
    assert answer["cards"][0]["matches"][0]["name"] == built.records()[3]["name"]
    table = ask(built, *frames, "--vote")
    assert table.returncode == 0
    assert table.stdout.startswith("2 pictures of one card\n")
    nothing = ask(built, broken, "--vote")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "broken.jpg: not a readable picture" in nothing.stderr


def test_a_name_is_found_with_what_looks_like_it(built: Built) -> None:
    name = built.records()[1]["name"]
    (line,) = answers(ask(built, "--name", name.lower(), "--json", "--k", 2).stdout)
    assert list(line) == ["name", "faces"]
    (face,) = line["faces"]
    assert list(face) == [*MATCH_FIELDS[2:], "nearest"]
    assert face["name"] == name
    assert len(face["nearest"]) == 2
    assert name not in {match["name"] for match in face["nearest"]}
    assert f"  {name}  [" in ask(built, "--name", name).stdout
    unknown = ask(built, "--name", "Nobody's Card")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "the index has no card named Nobody's Card" in unknown.stderr


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "cp1252"}])
def test_json_is_json_and_paths_are_paths_in_any_locale(built: Built, tmp_path: Path, locale: dict[str, str]) -> None:
    index = Path(shutil.copytree(built.index, tmp_path / "café"))
    metadata, manifest = index / "mtg_meta.jsonl", index / "build_manifest.json"
    lines = metadata.read_bytes().replace(built.records()[1]["name"].encode(), "Lim-Dûl".encode())
    before, after = (hashlib.sha256(text).hexdigest() for text in (metadata.read_bytes(), lines))
    metadata.write_bytes(lines)
    manifest.write_text(manifest.read_text().replace(before, after))
    words = [sys.executable, str(ROOT / "query_index.py"), "--name", "lim-dûl", "--json", "--index", str(index)]
    done = subprocess.run(words, env=os.environ | locale, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["faces"][0]["name"] == "Lim-Dûl"


def test_only_faces_that_pass_a_filter_are_answered(built: Built) -> None:
    first, other = built.records()[0], built.records()[5]
    kept = {record["face_id"] for record in built.records() if record["rarity"] == first["rarity"]}
    assert other["face_id"] not in kept
    passing = f"rarity={first['rarity']},lang=en|de,type_line="
    words = ("--where", passing, "--where", "type_line=e", "--k", 100)
    done = ask(built, picture_of(built, 0), picture_of(built, 5), *words, "--json", "--detect", "off")
    assert done.returncode == 0, done.stderr
    (card,), (stranger,) = (answer["cards"] for answer in answers(done.stdout))
    assert (
        {match["face_id"] for match in card["matches"]} == {match["face_id"] for match in stranger["matches"]} == kept
    )
    assert (card["matches"][0]["face_id"], card["sure"], stranger["sure"]) == (first["face_id"], True, False)
    (line,) = answers(ask(built, "--name", other["name"], *words, "--json").stdout)
    assert {match["face_id"] for match in line["faces"][0]["nearest"]} <= kept
    assert (
        f"{len(kept)} rows where rarity={first['rarity']},lang=en|de" in ask(built, picture_of(built, 0), *words).stdout
    )


def test_a_filter_that_nothing_passes_is_told_before_the_model_is_loaded(built: Built) -> None:
    done = ask(built, picture_of(built, 0), "--where", "set=nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ERROR: Invalid Arguments: no row of the index passes --where set=nothing")
    assert "13 rows; set=nothing: 0" in done.stderr


def test_words_are_added_up_with_their_weights(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of the tests know no words."""
    face = CardFace.from_json((built.index / "mtg_meta.jsonl").read_bytes().splitlines()[0])
    asked: list[object] = []

    def search_text(folder: Path, texts: dict[str, float], k: int, **more: object) -> Answer:
        asked.append((texts, k, more))
        match = Match(1, 0.3, face)
        return Answer("", (Card(None, 0, (match,), ((match,),), None, None, None),))

    monkeypatch.setattr(query_index, "search_text", search_text)
    words = ("--text", "Jace: a mind", "--text", "red:-0.5", "--text", "red:1", "--json", "--index", built.index)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert query_index.main([*map(str, words), "--html", str(tmp_path / "page.html")]) == 0
    how = {"ef_search": None, "device": "auto", "search": "auto", "where": None}
    assert asked == [({"Jace: a mind": 1.0, "red": 0.5}, 5, how)]
    (line,) = answers(printed.getvalue())
    assert list(line) == ["text", "metric", "ef_search", "search", "cards"]
    assert face.name in (tmp_path / "page.html").read_text()


def test_paths_from_stdin_are_answered_one_by_one(built: Built) -> None:
    with WarmProcess("query_index.py", "-", "--json", *UNREAD, "--index", built.index) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        for row in (3, 1):  # the second is only asked when the first is answered
            run.stdin.write(f"{picture_of(built, row)}\n")
            run.stdin.flush()
            answer = json.loads(run.stdout.readline())
            assert answer["cards"][0]["matches"][0]["name"] == built.records()[row]["name"]
        run.stdin.close()
        assert run.wait() == 0


def test_odd_names_are_answered_too(built: Built, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9 \xf0\x9f\x83\x8f.jpg"
    Path(os.fsdecode(odd)).write_bytes(picture_of(built, 2).read_bytes())
    lines = b"\n".join([b"a\0b.jpg", odd + b"\r", b"", os.fsencode(picture_of(built, 1))])
    done = ask(built, "-", "--json", input=os.fsdecode(lines))
    assert done.returncode == 2
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert "error" in found[0]
    assert [answer["cards"][0]["matches"][0]["name"] for answer in found[1:]] == [
        *(built.records()[row]["name"] for row in (2, 1))
    ]


def test_a_name_that_begins_with_a_dash_follows_two(built: Built, tmp_path: Path) -> None:
    shutil.copy(picture_of(built, 3), tmp_path / "-p.jpg")
    words = ["--k", 1, "--json", *UNREAD, "--index", built.index, "--", "-p.jpg"]
    (answer,) = answers(run_script("query_index.py", *words, cwd=tmp_path).stdout)
    assert answer["cards"][0]["matches"][0]["name"] == built.records()[3]["name"]


def test_stdout_is_only_data_where_stderr_is_closed(built: Built) -> None:
    name = built.records()[0]["name"]
    words = (sys.executable, ROOT / "query_index.py", "--name", name, "--json", "--index", built.index)
    closed = ["bash", "-c", '"$@" 2>&-', "bash", *map(str, words)]
    done = subprocess.run(closed, capture_output=True, text=True, timeout=120, check=False)
    assert len(answers(done.stdout)) == 1


def test_more_matches_than_cards_gives_all_cards(built: Built) -> None:
    (answer,) = answers(ask(built, picture_of(built, 0), "--k", 1000, "--json").stdout)
    assert len(answer["cards"][0]["matches"]) == 13


def test_a_reader_that_leaves_early_is_no_failure_worth_words(built: Built) -> None:
    with WarmProcess("query_index.py", *[picture_of(built, 0)] * 30, *UNREAD, "--index", built.index) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline()
        run.stdout.close()
        said = run.stderr.read()
    assert run.returncode == 141
    assert "Traceback" not in said
    assert "ERROR" not in said


def change_index(index: Path, model: Path) -> None:
    import faiss

    other = faiss.IndexHNSWFlat(512, 8, faiss.METRIC_INNER_PRODUCT)
    other.add(np.eye(5, 512, dtype=np.float32))
    faiss.write_index(other, str(index / "mtg_cards.faiss"))


def l2_index(index: Path, model: Path) -> None:
    import faiss

    other = faiss.IndexHNSWFlat(512, 8)
    other.add(np.eye(13, 512, dtype=np.float32))
    faiss.write_index(other, str(index / "mtg_cards.faiss"))


def cut_metadata(index: Path, model: Path) -> None:
    path = index / "mtg_meta.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])


def remove_manifest(index: Path, model: Path) -> None:
    (index / "build_manifest.json").unlink()


def change_weights(index: Path, model: Path) -> None:
    weights = torch.load(model / "open_clip_pytorch_model.bin", weights_only=True)
    next(weight for name, weight in weights.items() if name.startswith("visual.") and weight.ndim == 2)[0, 0] += 1
    torch.save(weights, model / "open_clip_pytorch_model.bin")


def remove_model(index: Path, model: Path) -> None:
    shutil.rmtree(model)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change_index, "mtg_cards.faiss does not belong to this index"),
        (l2_index, "mtg_cards.faiss does not belong to this index"),
        (cut_metadata, "mtg_meta.jsonl does not belong to this index"),
        (remove_manifest, "there is no finished index in"),
        (change_weights, "the model's weights are not the ones the index was built with"),
        (remove_model, "holds no open_clip model"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_index_that_does_not_fit_together_is_not_used(built: Built, tmp_path: Path, damage: Any, words: str) -> None:
    index = Path(shutil.copytree(built.index, tmp_path / "index"))
    model = Path(shutil.copytree(built.model, tmp_path / "model"))
    manifest = json.loads((index / "build_manifest.json").read_text())
    manifest["model"]["name"] = f"local-dir:{model}"
    (index / "build_manifest.json").write_text(json.dumps(manifest))
    damage(index, model)
    done = run_script("query_index.py", picture_of(built, 0), "--index", index, "--raw")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def hashes_of(index: Path) -> NDArray[np.uint8] | None:
    return StoredIndex(IndexFolder(index)).hashes()


def test_an_index_of_before_there_were_hashes_still_answers(built: Built, tmp_path: Path) -> None:
    index = Path(shutil.copytree(built.index, tmp_path / "index"))
    assert np.array_equal(hashes_of(index), np.load(index / "mtg_dhash.npy"))  # type: ignore[arg-type]
    without_hashes(index)
    assert hashes_of(index) is None
    old = Built(built.cache, index, built.model)
    (answer,) = answers(ask(old, picture_of(built, 4), "--json", "--k", 1, "--detect", "off").stdout)
    assert answer["cards"][0]["matches"][0]["name"] == built.records()[4]["name"]


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: np.save(path, np.zeros((13, 32)))],
    ids=["missing", "empty", "changed"],
)
def test_hashes_that_the_manifest_names_must_be_there_unchanged(
    built: Built, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    index = Path(shutil.copytree(built.index, tmp_path / "index"))
    damage(index / "mtg_dhash.npy")
    with pytest.raises(PipelineError, match=r"mtg_dhash\.npy does not belong to this index"):
        hashes_of(index)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_waits_for_more_ends_it(built: Built, sent: signal.Signals) -> None:
    with WarmProcess("query_index.py", "-", "--index", built.index, "--json") as run:
        assert run.stdin is not None
        assert run.stdout is not None
        print("nothing.jpg", file=run.stdin, flush=True)
        assert "error" in json.loads(run.stdout.readline())
        run.send_signal(sent)
        _, stderr = run.communicate()
    assert run.returncode == 128 + sent
    assert "Traceback" not in stderr
