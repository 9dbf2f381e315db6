"""evaluate_index.py: ranks and what is made of them, by a second way; then a small index, from outside."""

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.cards.image_cache import ImageCache
from helpers.evaluate.dense import Dense, Way, signs
from helpers.evaluate.findings import AtSize, Condition, Findings, read_findings
from helpers.evaluate.metrics import Groups, mean, rank_among, ranks, recall
from helpers.evaluate.phash import phash
from helpers.evaluate.queries import CONDITIONS, ROUNDS, Asked, render, rows_of_round
from helpers.evaluate.report import headline
from helpers.evaluate.search import clusters_of
from helpers.evaluate.size import fitted_tail
from helpers.recognise.evaluation import Share
from tests.conftest import Built, run_script
from tests.pictures import encoded
from tests.test_formats import check

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
    assert [rank_among(groups.of, each, group) for each, group in zip(scores, right, strict=True)] == expected
    assert rank_among(groups.of, scores[0], groups.count) == 0  # a name that is no candidate


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
@settings(max_examples=20, deadline=None)
def test_comparing_with_all_rows_gives_the_product_s_scores(seed: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((5, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    hashes, numbers = rng.integers(0, 256, (5, 32)).astype(np.uint8), np.arange(5)
    dense = Dense.of(rows, None, {"dHash": hashes}, weight)
    asked = Asked(numbers, numbers, numbers, rows[::-1].copy(), hashes[::-1].copy(), hashes)
    ((_, scores),) = dense.scored(asked, dense.ways)
    differing = np.unpackbits(hashes[::-1][:, None] ^ hashes, axis=2).sum(axis=2)
    assert scores[Way("raw", "dHash")] == pytest.approx(rows[::-1] @ rows.T - weight * differing / 256, abs=1e-4)
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
    assert found.camera and found.search and found.strangers and found.baselines and found.size
    assert {part.rows for part in (found.camera, found.search, found.strangers, found.baselines)} == {rows}
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
    hashes, vectors = ("pHash alone", "dHash alone"), ("raw", "raw + dHash", "centred", "centred + dHash")
    assert [variant.name for variant in found.baselines.variants] == ["the product's answer", *hashes, *vectors]
    assert found.conditions.left_out == ("whitened vectors: the index has no whitening",)
    assert "Left out: whitened vectors" in said
    for variant in found.baselines.variants:
        assert re.search(rf"^{re.escape(variant.name)}  .*{re.escape(str(variant.overall))}$", said, re.MULTILINE)
        assert sum(share.hits for share in variant.recall_at_1) == variant.overall.hits


def test_a_miss_can_be_looked_at_again(built: Built, evaluated: tuple[str, Findings, Path]) -> None:
    _, found, _ = evaluated
    records = built.records()
    for miss in found.misses:
        assert (records[miss.row]["name"], records[miss.answered_row]["name"]) == (miss.name, miss.answered_name)
        assert miss.name != miss.answered_name
        assert miss.score is None or miss.score <= miss.answered_score
        with Image.open(ImageCache(built.cache).path_for(records[miss.row]["image_url"])) as card:
            assert render(card, miss.condition, found.conditions.seed, miss.round, miss.row).mode == "RGB"


def test_pictures_that_are_not_there_are_named(built: Built, tmp_path: Path) -> None:
    for folder, words in ((tmp_path / "none", "there is no directory"), (tmp_path, "none of 5 that were tried is in")):
        done = run_script("scripts/evaluate_index.py", "--index", built.index, "--cache", folder, "--out", tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert "--cache DIR" in done.stderr
    assert not [*tmp_path.iterdir()]
