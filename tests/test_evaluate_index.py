"""evaluate_index.py: ranks and what is made of them, by a second way; then a small index, from outside."""

import json
import math
import re
import shutil
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import imagehash
import numpy as np
import pytest
from evaluate_index import main
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from helpers.artifacts import IndexFolder
from helpers.cards.image_cache import ImageCache
from helpers.embed.vectors import unit_rows
from helpers.evaluate.answers import Catalogue, answers, of_strangers
from helpers.evaluate.dense import Dense, Way, signs
from helpers.evaluate.findings import AtSize, Condition, Findings, Predicted, read_findings
from helpers.evaluate.metrics import Groups, mean, rank_among, ranks, recall
from helpers.evaluate.page import page, page_of
from helpers.evaluate.phash import phash
from helpers.evaluate.plots import lowest_shown
from helpers.evaluate.plots import size as size_plot
from helpers.evaluate.queries import CONDITIONS, ROUNDS, Queries, render, rows_of_round
from helpers.evaluate.reading import CONDITIONS_READ
from helpers.evaluate.report import headline, report
from helpers.evaluate.search import SearchedIndex, clusters_of, measured_search
from helpers.evaluate.size import CONDITION, fitted_tail, size
from helpers.evaluate.strangers import strangers
from helpers.index.faiss_index import CardIndex
from helpers.index.store import StoredIndex
from helpers.recognise.evaluation import Share, threshold, wilson
from tests.conftest import Built, run_script, run_well, without_hashes
from tests.kills import run_signalled_before
from tests.made_findings import made_findings
from tests.pictures import encoded
from tests.test_formats import check
from tests.test_ranking import random_rows, ranker

NAMES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8)


@given(NAMES, st.data())
def test_a_rank_counts_the_other_names_that_score_higher(names: list[str], data: st.DataObject) -> None:
    score = st.integers(0, 5)
    asked = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4))
    scores = np.array([[data.draw(score) for _ in names] for _ in asked], np.float32)
    groups = Groups.by(names)
    right = np.array([groups.of[names.index(name)] for name in asked])
    expected = []
    for name, each in zip(asked, scores.tolist(), strict=True):
        best = {other: max(s for n, s in zip(names, each, strict=True) if n == other) for other in names}
        expected.append(1 + sum(value > best[name] for value in best.values()))
    assert ranks(scores, groups, right).tolist() == expected


@given(NAMES, st.sampled_from("abcd"))
def test_a_rank_among_candidates_counts_the_other_names_that_are_shown_before(names: list[str], right: str) -> None:
    labels = np.array([ord(name) for name in names])
    ahead = set(names[: names.index(right)]) if right in names else None
    assert rank_among(labels, ord(right)) == (0 if ahead is None else 1 + len(ahead))


def queries_of(
    vectors: NDArray[np.float32], row: Sequence[int], condition: int = 0, round: Sequence[int] | int = 0
) -> Queries:
    hashes, count = np.zeros((len(row), 32), np.uint8), len(row)
    turns = np.broadcast_to(np.asarray(round, np.int64), count)
    return Queries(np.asarray(row, np.int64), np.full(count, condition), turns, vectors, hashes, hashes)


def catalogue_of(names: Sequence[str]) -> Catalogue:
    return Catalogue(names, Groups.by(names), Groups.by(names))


def test_of_two_names_with_one_picture_the_one_that_is_shown_is_answered(tmp_path: Path) -> None:
    names, rows = ["Ox", "Yak", "Elk"], np.eye(3, 8, dtype=np.float32)[[0, 0, 1]]
    given = answers(ranker(tmp_path, rows, None, names), queries_of(rows, [0, 1, 2]), catalogue_of(names))
    shown = [names[int(ranking.rows[0])] for ranking in given.rankings]
    assert shown[0] == shown[1] != shown[2]
    assert given.right.tolist() == [one == name for one, name in zip(shown, names, strict=True)]
    assert sorted(given.rank.tolist()) == sorted(given.illustration_rank.tolist()) == [1, 1, 2]


@pytest.mark.parametrize("suggests", [True, False])
def test_a_suggested_threshold_lets_no_more_pass_than_it_says(tmp_path: Path, suggests: bool) -> None:
    rows = random_rows(60)
    names = [f"Card {row}" for row in range(60)]
    asked, catalogue = queries_of(rows, range(60)), catalogue_of(names)
    made = ranker(tmp_path, rows, None, names)
    given = answers(made, asked, catalogue)
    found = strangers(made, asked, given, catalogue, suggests=suggests)
    if not suggests:
        assert found.suggested is None
        return
    clear, _ = of_strangers(made, asked, catalogue)
    assert found.suggested is not None
    assert float(f"{found.suggested:.3f}") == found.suggested >= threshold(clear) > found.suggested - 0.0011
    assert (clear >= found.suggested).sum() <= 1  # 2 % of 60


def test_where_no_threshold_was_chosen_none_is_printed() -> None:
    found = made_findings()
    assert found.strangers
    unknown = replace(found.strangers, thresholds=(), suggested=None)
    text = report(Findings(conditions=found.conditions, strangers=unknown))
    assert "reach: none (of the folds: none)" in text
    html = page(Findings(conditions=found.conditions, strangers=unknown), asked=lambda _: None, card=lambda _: None)
    assert "(0 folds: none)" in html


def test_the_scale_of_the_damage_begins_at_nothing_or_above() -> None:
    found = made_findings()
    assert found.camera
    first = found.camera.at[0]
    low = replace(first, by_name=replace(first.by_name, at_1=Share(0, 9, 0.0, 0.3)))
    assert lowest_shown([low]) == 0
    assert lowest_shown(found.camera.at) > 0


def test_the_plot_of_sizes_shows_no_extrapolation_where_there_is_none() -> None:
    found = made_findings().size
    assert found and found.tail
    assert "extrapolated, not measured" in size_plot(found)
    measured = replace(found.tail, predicted=(Predicted(100, 0.9, extrapolated=False),))
    assert "extrapolated" not in size_plot(replace(found, tail=measured))


def test_what_a_row_is_asked_under_many_conditions_counts_once_for_intervals() -> None:
    rows = random_rows(12)
    index, asked = CardIndex.build(rows, 16, 100), np.arange(300) % 12
    searched = SearchedIndex(index, rows, None, Groups.by([*map(str, range(12))]))
    found, _ = measured_search(searched, queries_of(rows[asked], asked.tolist()), rows, 60)
    low = wilson(12, 12)[0]
    assert found.clusters
    for share in (*(at.recall_at_10 for at in found.at), found.int8.recall_at_10, found.clusters.recall_at_10_outside):
        assert (share.hits, share.total, share.low) == (3000, 3000, low)
    assert {at.recall_at_1.low for at in found.at} == {low} == {found.int8.same_first_name.low}


@given(st.integers(0, 200))
@settings(max_examples=20)
def test_a_size_counts_so_many_names_with_the_right_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng.standard_normal((40, 3)).astype(np.float32))
    names = [f"Card {row % 32}" for row in range(40)]
    catalogue, weights = catalogue_of(names), {"raw": 1.0}
    row, round = rng.permutation(40)[:10].tolist(), (np.arange(10) % ROUNDS).tolist()
    asked = queries_of(unit_rows(rng.standard_normal((10, 3)).astype(np.float32)), row, CONDITION, round)
    found = size(Dense.of(rows, None, {}, weights), Way("raw", None), asked, catalogue, seed)
    assert [at.names for at in found.at] == [1, 2, 4, 8, 16, 32]
    scores = asked.vectors @ rows.T
    for at in found.at:
        hits = 0
        for each, own, turn in zip(scores, catalogue.names.of[row], round, strict=True):
            place = np.random.default_rng((seed, turn)).permutation(32)
            others = [name for name in np.argsort(place).tolist() if name != own]
            among = [own, *others[: at.names - 1]]  # as many names as it says
            best = [each[catalogue.names.rows(name)].max() for name in among]
            hits += best[0] == max(best)
        assert at.recall_at_1.hits == hits


def test_recall_and_its_mean_count_what_is_not_found_as_nothing() -> None:
    found = recall(np.array([1, 2, 6, 0]), ["a", "b", "c", "d"])
    assert (found.at_1.hits, found.at_5.hits, found.at_5.total) == (1, 2, 4)
    assert found.mrr.value == pytest.approx((1 + 1 / 2 + 1 / 6) / 4)


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=12))
def test_the_interval_of_a_mean_holds_it_and_is_by_card(pairs: list[tuple[float, str]]) -> None:
    values, cards = np.array([value for value, _ in pairs]), [card for _, card in pairs]
    found = mean(values, cards)
    assert found.value == pytest.approx(values.mean())
    assert found.total == len(pairs)
    assert values.min() - 1e-9 <= found.low <= found.high <= values.max() + 1e-9
    if len(set(cards)) == 1:  # nothing is known of other cards
        assert found.low == pytest.approx(found.high)


@given(st.integers(0, 1000))
def test_rows_hang_together_by_near_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * math.pi, 12)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    near = float(np.cos(0.3))
    together = rows @ rows.T >= near
    for _ in rows:  # whoever can be reached
        together = (together.astype(int) @ together.astype(int)) > 0
    cluster = clusters_of(rows, near)
    assert ((cluster[:, None] == cluster) == together).all()


@given(st.floats(1e-4, 1e-3), st.floats(0.1, 0.6))
def test_the_tail_follows_errors_that_grow_by_a_power(a: float, b: float) -> None:
    def at(rows: int) -> AtSize:
        wrong = round(10**9 * min(1, a * rows**b))
        return AtSize(rows, rows, Share(10**9 - wrong, 10**9, 0, 1))

    tail = fitted_tail([at(rows) for rows in (100, 200, 400, 60_000)])
    assert tail is not None
    assert tail.a == pytest.approx(a, rel=0.01)
    assert tail.b == pytest.approx(b, abs=0.01)
    assert [one.extrapolated for one in tail.predicted] == [False, True, True]
    for one in tail.predicted:
        assert one.recall_at_1 == pytest.approx(max(0, 1 - a * one.rows**b), abs=0.02)
    assert fitted_tail([at(100), at(200)]) is None


@pytest.mark.parametrize("seed", range(4))
def test_perceptual_hashes_are_imagehash_s(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (9 + seed, 7, 3), np.uint8)
    spot = Image.new("RGB", (64, 64))  # bright in a corner: no frequency is negative, and the median far from 0
    spot.paste((255, 255, 255), (0, 0, 2, 3))
    for picture in (Image.fromarray(noise).resize((488, 680)), spot):
        assert phash(picture).tolist() == np.packbits(imagehash.phash(picture, hash_size=16).hash).tolist()


@given(st.integers(0, 100), st.floats(0, 3))
@settings(max_examples=20)
def test_comparing_with_all_rows_gives_the_product_s_scores(seed: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((5, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    hashes, numbers = rng.integers(0, 256, (5, 32)).astype(np.uint8), np.arange(5)
    dense = Dense.of(rows, None, {"dHash": hashes}, {"raw": weight, "centred": weight + 1})
    asked = Queries(numbers, numbers, numbers, rows[::-1].copy(), hashes[::-1].copy(), hashes)
    ((_, scores),) = dense.scored(asked, dense.ways)
    differing = np.unpackbits(hashes[::-1][:, None] ^ hashes, axis=2).sum(axis=2)
    assert scores[Way("raw", "dHash")] == pytest.approx(rows[::-1] @ rows.T - weight * differing / 256, abs=1e-4)
    assert scores[Way("centred", "dHash")] == pytest.approx(
        scores[Way("centred", None)] - (weight + 1) * differing / 256, abs=1e-4
    )
    assert scores[Way(None, "dHash")] == pytest.approx(differing / -256, abs=1e-5)
    assert (signs(hashes) @ signs(hashes).T).diagonal().tolist() == [256] * 5


def test_a_picture_is_made_again_from_its_seed_in_any_thread() -> None:
    card = Image.open(BytesIO(encoded())).convert("RGB")
    last = {condition.kind: condition for condition in CONDITIONS}.values()

    def made(condition: Condition, round: int = 0) -> bytes:
        return render(card, condition, 3, round, 7).tobytes()

    alone = [made(condition) for condition in last]
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(made, last)] == alone
    same = {one.kind for one, before in zip(last, alone, strict=True) if made(one, 1) == before}
    assert same <= {"blur", "exposure", "jpeg", "height", "colour cast"}  # without a place; of two directions


def test_rounds_ask_other_cards_and_seeds_too() -> None:
    orders = [rows_of_round(seed, round, 50).tolist() for seed in (0, 1) for round in range(ROUNDS)]
    assert len({tuple(order) for order in orders}) == 2 * ROUNDS
    assert all(sorted(order) == [*range(50)] for order in orders)


@pytest.fixture(scope="module")
def evaluated(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Findings, Path]:
    """A card of each round, asked of the index of drawn cards."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    words = ("--index", built.index, "--minutes", 0.01, "--out", out)
    before = {path: path.stat().st_mtime_ns for path in built.index.iterdir()}
    done = run_script("scripts/evaluate_index.py", *words)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in built.index.iterdir()} == before
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "evaluation.html"}
    return done.stdout, read_findings(out / "evaluation.json"), out / "evaluation.json"


def test_a_small_index_is_evaluated(built: Built, evaluated: tuple[str, Findings, Path]) -> None:
    said, found, file = evaluated
    check("evaluation.json", json.loads(file.read_text(encoding="utf-8")))
    rows = built.manifest()["statistics"]["successful_embeddings"]
    asked = found.conditions.cards * ROUNDS * len(CONDITIONS)
    assert found.camera and found.search and found.strangers and found.baselines and found.size and found.reading
    measured = (found.camera, found.search, found.strangers, found.baselines, found.reading)
    assert {part.rows for part in measured} == {rows}
    assert found.reading.queries % len(CONDITIONS_READ) == 0 < found.reading.queries
    assert (found.conditions.rows, found.camera.queries) == (rows, asked)
    assert [one.condition for one in found.camera.at] == [*CONDITIONS] == [*found.baselines.conditions]
    assert {one.by_name.at_1.total for one in found.camera.at} == {asked // len(CONDITIONS)}
    as_is = found.camera.at[0].by_name.at_1
    assert as_is.hits == as_is.total  # the very pictures of the index, but for the table behind their corners
    assert found.search.self_recall.hits == found.search.self_recall.total == rows
    assert found.size.at[-1].rows == rows
    assert all(share.total for one in found.camera.at for share in one.by_seed)
    assert said.splitlines()[-2:] == headline(found).splitlines()
    assert said.splitlines()[-2].startswith(f"Named first among {rows} faces: {as_is} as is, ")


def test_every_way_to_rank_has_a_row(evaluated: tuple[str, Findings, Path]) -> None:
    said, found, _ = evaluated
    assert found.baselines
    vectors = [way for name in ("raw", "centred", "whitened") for way in (name, f"{name} + dHash")]
    named = ["the product's answer", "pHash alone", "dHash alone", *vectors]
    assert [variant.name for variant in found.baselines.variants] == named
    assert found.conditions.left_out == ()
    assert "Left out" not in said
    for variant in found.baselines.variants:
        assert re.search(rf"^{re.escape(variant.name)}  .*{re.escape(str(variant.overall))}$", said, re.MULTILINE)
        assert sum(share.hits for share in variant.recall_at_1) == variant.overall.hits


def test_a_miss_can_be_looked_at_again(whitened: Built, of_whitened: tuple[str, Findings]) -> None:
    _, found = of_whitened
    records = whitened.records()
    assert found.misses
    for miss in found.misses:
        assert (records[miss.row]["name"], records[miss.answered_row]["name"]) == (miss.name, miss.answered_name)
        assert miss.name != miss.answered_name
        assert miss.score is None or miss.score <= miss.answered_score
        with Image.open(whitened.cache / records[miss.row]["image_url"]) as card:
            assert render(card, miss.condition, found.conditions.seed, miss.round, miss.row).mode == "RGB"


def shortly(index: Path, out: Path, *more: object) -> tuple[str, Findings]:
    """What is said and found of an index in the least time."""
    done = run_script("scripts/evaluate_index.py", "--index", index, "--minutes", 0.01, "--out", out, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout, read_findings(out / "evaluation.json")


@pytest.fixture(scope="module")
def of_whitened(whitened: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Findings]:
    words = ("--cache", whitened.cache, "--sections", "index,camera,strangers,size")
    return shortly(whitened.index, tmp_path_factory.mktemp("of_whitened"), *words)


def test_each_form_of_vectors_has_the_hash_weight_that_fits_it(
    whitened: Built, of_whitened: tuple[str, Findings]
) -> None:
    said, found = of_whitened
    assert found.baselines and found.conditions.whitened
    manifest = StoredIndex(IndexFolder(whitened.index)).manifest
    own, raw = manifest.recognition.hash_weight, manifest.recognition_by(whitened=False).hash_weight
    weights = {variant.name: variant.hash_weight for variant in found.baselines.variants}
    assert own != raw
    assert weights == {
        **dict.fromkeys(("the product's answer", "pHash alone", "dHash alone", "raw", "centred", "whitened")),
        **{"raw + dHash": raw, "centred + dHash": raw, "whitened + dHash": own},
    }
    assert re.search(rf"^raw \+ dHash +{raw:g} ", said, re.MULTILINE)
    assert not [sentence for sentence in found.conditions.left_out if "cluster" not in sentence]


WITHOUT_SEARCH_AND_READING = ("--sections", "camera,strangers,size")


@pytest.mark.parametrize(
    ("rows", "sections"),
    [
        pytest.param(1, (), marks=pytest.mark.slow),
        pytest.param(2, (), marks=pytest.mark.slow),
        (2, WITHOUT_SEARCH_AND_READING),
    ],
)
def test_one_row_and_two_names_without_hashes_work(
    built: Built, many: Path, tmp_path: Path, rows: int, sections: tuple[str, ...]
) -> None:
    words = ("--pictures", many.parent, "--table", many, "--model", f"local-dir:{built.model}", "--no-whiten")
    run_well("build_embeddings.py", *words, "--limit", rows, "--out", tmp_path / "index")
    if rows == 2:
        without_hashes(tmp_path / "index")
    said, found = shortly(tmp_path / "index", tmp_path / "out", "--cache", many.parent, *sections)
    assert found.camera and found.strangers and found.size and found.baselines
    assert (found.camera.rows, found.size.at[-1].names) == (rows, rows)
    assert (found.strangers.thresholds, found.strangers.suggested) == ((), None)  # no stranger has a second name
    assert "reach: none (of the folds: none)" in said
    assert max(map(len, said.split())) < 60
    hashes = [] if rows == 2 else ["dHash alone", "raw + dHash", "centred + dHash"]
    names = {"the product's answer", "pHash alone", "raw", "centred", *hashes}
    assert {one.name for one in found.baselines.variants} == names
    assert ("difference hashes: the index has none" in found.conditions.left_out) is (rows == 2)


def test_cards_whose_pictures_are_gone_are_counted(built: Built, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(built.cache, tmp_path / "cache"))
    records = built.records()
    gone = records[int(rows_of_round(0, 2, len(records))[0])]["image_url"]
    ImageCache(cache).path_for(gone).unlink()
    words = ("--cache", cache, "--sections", "strangers", "--hash-weight", 0.5)
    said, found = shortly(built.index, tmp_path / "out", *words)
    [sentence] = [sentence for sentence in found.conditions.left_out if "pictures can't be read" in sentence]
    planned = int(sentence.split()[2])  # as many as there was time for
    orders = [rows_of_round(0, round, len(records))[: planned // ROUNDS] for round in range(ROUNDS)]
    asked = [records[int(row)]["image_url"] for order in orders for row in order]
    assert sentence == f"{asked.count(gone)} of {planned} cards: their pictures can't be read"
    assert f"Left out: {sentence}" in said
    assert found.baselines is None  # nobody asked for them
    assert "comparing" not in found.conditions.seconds
    assert found.strangers
    assert found.strangers.suggested is None  # queries rank by another weight
    assert any("--hash-weight" in sentence for sentence in found.conditions.left_out)


def test_the_search_is_measured_without_pictures(built: Built, tmp_path: Path) -> None:
    index = Path(shutil.copytree(built.index, tmp_path / "index"))
    manifest = json.loads((index / "build_manifest.json").read_text())
    manifest["parameters"]["cache"] = str(tmp_path / "gone")
    (index / "build_manifest.json").write_text(json.dumps(manifest))
    _, found = shortly(index, tmp_path / "out", "--sections", "index")
    assert found.search
    assert found.search.made_of == "rows moved to cosine 0.75 by noise"
    assert "distorted pictures as queries of the search: the pictures of the index were not found" in (
        found.conditions.left_out
    )
    done = run_script("scripts/evaluate_index.py", "--index", index, "--sections", "index,size", "--out", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no directory" in done.stderr


def test_what_was_measured_is_printed_before_it_is_written(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr("helpers.evaluate.stage.evaluate", lambda _: made_findings())
    monkeypatch.setattr("helpers.evaluate.page.page_of", full)
    with pytest.raises(OSError, match="No space"):
        main(["--index", str(built.index), "--out", str(tmp_path)])
    assert "Named first among" in capsys.readouterr().out
    assert (tmp_path / "evaluation.json").is_file()


def test_an_interrupted_evaluation_says_what_is_lost_and_leaves_nothing(built: Built, tmp_path: Path) -> None:
    words = ("--index", built.index, "--minutes", 0.01, "--sections", "index", "--out", tmp_path)
    done = run_signalled_before("replace evaluation.json", "scripts/evaluate_index.py", *words, sent=signal.SIGINT)
    assert done.returncode == 130
    assert "Interrupted: what was measured so far is lost, nothing is half-written." in done.stderr
    assert not [*tmp_path.iterdir()]


def test_a_page_has_no_pictures_of_an_index_that_was_built_anew(
    built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    stored, found = StoredIndex(IndexFolder(built.index)), made_findings()
    misses = tuple(replace(miss, row=0, answered_row=1) for miss in found.misses)
    of_another = Findings(conditions=found.conditions, misses=misses)
    conditions = replace(found.conditions, built=stored.manifest.timestamp)
    pictured, bare = (
        page_of(replace(of_another, conditions=conditions), stored, None),
        page_of(of_another, stored, None),
    )
    assert (pictured.count("<img "), pictured.count("no picture")) == (3 * len(misses), 0)
    assert bare.count("no picture") == 3 * len(misses)
    assert "<img " not in bare
    assert "built anew meanwhile" in capsys.readouterr().err


def test_pictures_that_are_not_there_are_named(built: Built, tmp_path: Path) -> None:
    for folder, words in ((tmp_path / "none", "there is no directory"), (tmp_path, "none of 5 that were tried is in")):
        done = run_script("scripts/evaluate_index.py", "--index", built.index, "--cache", folder, "--out", tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert "--cache DIR" in done.stderr
    assert not [*tmp_path.iterdir()]
