"""Faces by text and by name: the mechanics; whether a text tower describes cards well is the model's affair."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray

from helpers.artifacts import IndexFolder
from helpers.errors import Category, PipelineError
from helpers.index.store import StoredIndex
from helpers.recognise.where import Where
from helpers.recognise.words import find_name, search_text
from tests.conftest import ROOT, Built, without_hashes
from tests.made_cache import make_tiny_model
from tests.test_library import copy_of

TEXTS = {"a dragon": 1.0, "a forest": 0.5, "white border": -0.7}


def text_vectors(model: Path, texts: list[str]) -> NDArray[np.float32]:
    """open_clip alone: unit rows."""
    loaded = open_clip.create_model(f"local-dir:{model}").eval()
    with torch.inference_mode():
        rows = loaded.encode_text(open_clip.get_tokenizer(f"local-dir:{model}")(texts), normalize=True)
    return np.asarray(rows.numpy(), np.float32)


def test_a_text_s_faces_come_by_the_cosine_with_the_weighted_sum(reading: Built) -> None:
    summed = np.array(list(TEXTS.values()), np.float32) @ text_vectors(reading.model, list(TEXTS))
    cosines = StoredIndex(IndexFolder(reading.index)).vectors() @ (summed / np.linalg.norm(summed))
    expected = np.argsort(-cosines)[:4]
    answer = search_text(reading.index, TEXTS, 4)
    (card,) = answer.cards
    assert (card.quad, card.orientation, card.margin, card.gap, card.sure) == (None, 0, None, None, None)
    names = [reading.records()[row]["face_id"] for row in expected]
    assert [match.face.face_id for match in card.matches] == names
    assert np.allclose([match.score for match in card.matches], cosines[expected], atol=1e-5)
    assert [match.rank for match in card.matches] == [1, 2, 3, 4]


def test_a_text_s_faces_are_those_that_pass_by_exact_search(reading: Built) -> None:
    rarity = reading.records()[0]["rarity"]
    kept = [row for row, record in enumerate(reading.records()) if record["rarity"] == rarity]
    everything = {match.face.face_id: match.score for match in search_text(reading.index, TEXTS, 13).cards[0].matches}
    (card,) = search_text(reading.index, TEXTS, 13, where=Where.parse(f"rarity={rarity}")).cards
    expected = sorted((reading.records()[row]["face_id"] for row in kept), key=lambda face: -everything[face])
    assert [match.face.face_id for match in card.matches] == expected
    assert [match.score for match in card.matches] == pytest.approx([everything[face] for face in expected], abs=1e-5)


def test_the_faces_of_a_name_that_pass_are_asked_or_all_if_none_does(built: Built) -> None:
    records = built.records()
    wanted = Where.parse(f"set={records[0]['set']}")
    own = {record["face_id"] for record in records if record["set"] == records[0]["set"]}
    for record in (records[0], next(record for record in records if record["face_id"] not in own)):
        found = find_name(built.index, record["name"], 100, where=wanted)
        assert {face.face_id for face, _ in found} == {record["face_id"]}
        assert all({match.face.face_id for match in nearest} == own - {record["face_id"]} for _, nearest in found)


def test_only_the_ratio_of_weights_counts(reading: Built) -> None:
    once = search_text(reading.index, {"a": 1, "b": -0.5}, 3)
    twice = search_text(reading.index, {"a": 2e-5, "b": -1e-5}, 3, ef_search=13)
    pairs = zip(once.cards[0].matches, twice.cards[0].matches, strict=True)
    assert all(a.face == b.face and abs(a.score - b.score) < 1e-5 for a, b in pairs)
    assert once != search_text(reading.index, {"a": 1, "b": 0.5}, 3)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "needs texts"),
        ({"a": math.nan}, "numbers as weights"),
        ({"a": 0.0}, "cancel"),
        ({"a dragon": 1.0, "A Dragon": -1.0}, "cancel"),  # the tokenizer ignores case
    ],
)
def test_texts_that_say_nothing_are_refused(reading: Built, texts: dict[str, float], words: str) -> None:
    with pytest.raises(PipelineError, match=words) as raised:
        search_text(reading.index, texts, 3)
    assert raised.value.category is Category.INVALID_ARGUMENTS


def test_an_untrained_text_tower_is_refused(built: Built) -> None:
    with pytest.raises(PipelineError, match="no trained text tower") as raised:
        search_text(built.index, {"a dragon": 1}, 3)
    assert "logit_scale is 2.6593" in raised.value.problems[0].details


def own_model(reading: Built, folder: Path) -> Built:
    """A copy of the index and its model, to be changed."""
    own = Built(reading.cache, copy_of(reading, folder), make_tiny_model(folder / "model", reads=True))
    manifest = own.manifest()
    manifest["model"]["name"] = f"local-dir:{own.model}"
    (own.index / "build_manifest.json").write_text(json.dumps(manifest))
    return own


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_untrained_text_tower_is_refused_in_any_precision(
    reading: Built, tmp_path: Path, dtype: torch.dtype
) -> None:
    own = own_model(reading, tmp_path)
    path = own.model / "open_clip_pytorch_model.bin"
    weights = torch.load(path, weights_only=True)
    weights["logit_scale"] = torch.tensor(np.log(1 / 0.07), dtype=dtype)
    torch.save(weights, path)
    with pytest.raises(PipelineError, match="no trained text tower"):
        search_text(own.index, {"a dragon": 1}, 3)


def test_the_configuration_may_begin_elsewhere(reading: Built, tmp_path: Path) -> None:
    own = own_model(reading, tmp_path)
    config = json.loads((own.model / "open_clip_config.json").read_text())
    config["model_cfg"]["init_logit_scale"] = math.log(100)
    (own.model / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(PipelineError, match="no trained text tower"):
        search_text(own.index, {"a dragon": 1}, 3)


def test_a_model_without_a_text_tower_is_refused(reading: Built, tmp_path: Path) -> None:
    own = own_model(reading, tmp_path)
    config = json.loads((own.model / "open_clip_config.json").read_text())
    del config["model_cfg"]["text_cfg"]
    (own.model / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(PipelineError, match="no trained text tower") as raised:
        search_text(own.index, {"a dragon": 1}, 3)
    assert "no text_cfg" in raised.value.problems[0].details


def test_other_weights_than_the_index_s_are_refused(reading: Built, tmp_path: Path) -> None:
    own = own_model(reading, tmp_path)
    path = own.model / "open_clip_pytorch_model.bin"
    weights = torch.load(path, weights_only=True)
    weights["visual.proj"] += 1
    torch.save(weights, path)
    with pytest.raises(PipelineError, match="weights are not the ones"):
        search_text(own.index, {"a dragon": 1}, 3)


@pytest.mark.parametrize("hashes", [True, False])
def test_a_name_finds_all_its_faces_and_others_like_them(built: Built, tmp_path: Path, hashes: bool) -> None:
    index = copy_of(built, tmp_path)
    if not hashes:
        without_hashes(index)
    records = built.records()
    for record in records:
        found = find_name(index, f" {record['name'].upper()} ", 20)
        assert [face.face_id for face, _ in found] == [
            other["face_id"] for other in records if record["name"] in (other["name"], other["card_name"])
        ]
        for _, matches in found:
            scores = [match.score for match in matches]
            assert scores == sorted(scores, reverse=True)
            assert {match.face.name for match in matches} == {r["name"] for r in records} - {record["name"]}


def test_a_card_s_name_finds_both_its_sides_and_neither_beside_the_other(built: Built) -> None:
    (name,) = {record["card_name"] for record in built.records() if record["card_name"] != record["name"]}
    sides = [record["name"] for record in built.records() if record["card_name"] == name]
    found = find_name(built.index, name, 20)
    assert [face.name for face, _ in found] == sides
    assert len(sides) == 2
    for _, matches in found:
        assert len(matches) == 11
        assert not {match.face.name for match in matches} & set(sides)


def test_the_nearest_other_is_by_vector_and_hash(recognised: Built) -> None:
    record = recognised.records()[3]
    ((_, matches),) = find_name(recognised.index, record["name"], 1)
    vectors = np.load(recognised.index / "mtg_embeddings.npy")
    hashes = np.unpackbits(np.load(recognised.index / "mtg_dhash.npy"), axis=1)
    whitening = StoredIndex(IndexFolder(recognised.index)).whitening()
    assert whitening is not None
    scores = whitening(vectors) @ whitening(vectors[3:4])[0] - 2 * (hashes != hashes[3]).mean(axis=1)
    scores[3] = -9
    assert matches[0].face.face_id == recognised.records()[int(scores.argmax())]["face_id"]
    assert matches[0].score == pytest.approx(float(scores.max()), abs=1e-5)


def test_a_name_that_is_not_there_is_answered_with_those_like_it(built: Built) -> None:
    name = built.records()[0]["name"]
    with pytest.raises(PipelineError, match="no card named") as raised:
        find_name(built.index, name.lower()[:-1], 3)
    assert name in raised.value.problems[0].suggestion
    with pytest.raises(PipelineError) as raised:
        find_name(built.index, "qqqqqqqq", 3)
    assert raised.value.problems[0].suggestion == "give the whole name"


def test_a_search_by_name_needs_no_model(built: Built) -> None:
    code = (
        "import sys; from helpers.recognise.words import find_name; "
        f"found = find_name({str(built.index)!r}, {built.records()[0]['name']!r}, 2); "
        "print(len(found[0][1]), {'torch', 'open_clip', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "2 set()\n", done.stderr
