"""Findings that nobody measured, to try the page of an evaluation on."""

import numpy as np

from helpers.evaluate.asking import WHOLE, AskedPhoto, Named, Scored
from helpers.evaluate.findings import (
    AtEfSearch,
    AtSize,
    Baselines,
    Camera,
    ChoiceFound,
    Clusters,
    Condition,
    Conditions,
    ConfidenceFound,
    Distorted,
    ExactSearch,
    Findings,
    Fusion,
    Int8,
    Mean,
    Miss,
    Predicted,
    PrintingsRead,
    ReadAt,
    ReadAtSize,
    Reading,
    ReadingMs,
    Recall,
    Samples,
    Search,
    Size,
    Strangers,
    StrangersAt,
    Tail,
    Variant,
)
from helpers.evaluate.photographs import Photographs, found_in
from helpers.evaluate.request import Options
from helpers.index.manifest import Recognition
from helpers.recognise.camera import DISTORTIONS
from helpers.recognise.evaluation import Share, wilson

ROWS, EACH = 1050, 200
HOSTILE = "<script>alert('Fire & Ice')</script>"
QUAD = ((20.0, 20.0), (220.0, 20.0), (220.0, 300.0), (20.0, 300.0))
CONDITIONS = [Condition(kind, amount, made.unit) for kind, made in DISTORTIONS.items() for amount in made.amounts]


def share(of_all: float, total: int = EACH) -> Share:
    hits = round(of_all * total)
    return Share(hits, total, *wilson(hits, total))


def recall(of_all: float) -> Recall:
    return Recall(share(of_all), share(min(1, of_all + 0.02)), Mean(of_all, of_all - 0.02, min(1, of_all + 0.01), EACH))


def made_findings(photo: str = "photo.jpg") -> Findings:
    """Every section filled; `photo` is the one photograph of its own section."""
    return Findings(
        conditions=_conditions(),
        search=_search(),
        camera=_camera(),
        baselines=Baselines(
            ROWS,
            tuple(CONDITIONS[:3]),
            tuple(
                Variant(name, (share(top), share(top - 0.03), share(top - 0.1)), share(top - 0.04, 3 * EACH))
                for name, top in (("as answered", 0.99), ("raw", 0.9), ("dHash alone", 0.97), ("pHash alone", 0.95))
            ),
        ),
        strangers=_strangers(),
        size=Size(
            CONDITIONS[3],
            "as the index answers",
            tuple(AtSize(rows, rows - 10, share(1 - 0.01 * rows**0.2)) for rows in (131, 262, 525, ROWS)),
            Tail("share of wrong answers = a * faces ** b", 0.01, 0.2, tuple(_predicted())),
        ),
        reading=_reading(),
        photographs=_photographs(photo),
        misses=_misses(),
    )


def _conditions() -> Conditions:
    return Conditions(
        timestamp="2026-11-01T12:00:00+00:00",
        tool_version="9.9.9",
        built="2026-10-31T12:00:00+00:00",
        rows=ROWS,
        names=1040,
        illustrations=1045,
        width=1280,
        model="cards",
        whitened=None,
        hashes=True,
        recognition=Recognition(hash_weight=1.5, sure_above=0.6, conditions="made up"),
        search="exact search",
        seed=1,
        rounds=5,
        cards=40,
        minutes=5.0,
        device="cpu",
        precision="bf16",
        pictures_per_second=20.0,
        seconds={"camera": 100.0},
        left_out=("Int8 of a whitened index: it has none.",),
    )


def _search() -> Search:
    efs = (16, 32, 64, 128, 256, 512)
    found = (0.94, 0.97, 0.99, 0.999, 1.0, 1.0)
    return Search(
        ROWS,
        1280,
        EACH,
        "rows moved to cosine 0.85",
        128,
        tuple(
            AtEfSearch(ef, share(at), share(at, 10 * EACH), 0.05 * ef**0.5, 0.02 * ef**0.5)
            for ef, at in zip(efs, found, strict=True)
        ),
        ExactSearch(0.4, 0.1),
        share(1.0, ROWS),
        Int8(share(0.995), share(0.998, 10 * EACH)),
        Clusters(0.9, 12, 30, 5, share(0.98, 300), share(0.999, 1700)),
    )


def _camera() -> Camera:
    rng = np.random.default_rng(1)
    at = tuple(
        Distorted(one, recall(top), recall(min(1.0, top + 0.005)), tuple(share(top, 40) for _ in range(5)))
        for one, top in zip(CONDITIONS, (1 - 0.15 * rng.random(len(CONDITIONS))).tolist(), strict=True)
    )
    return Camera(ROWS, EACH * len(at), at)


def _strangers() -> Strangers:
    rng = np.random.default_rng(2)
    at = tuple(StrangersAt(one, share(0.95), share(0.01), share(0.94), share(0.015)) for one in CONDITIONS[:4])
    samples = (
        rng.normal(mean, spread, count) for mean, spread, count in ((1, 0.2, 400), (0.2, 0.1, 30), (0.15, 0.1, 400))
    )
    right, wrong, stranger = (tuple(np.abs(some).tolist()) for some in samples)
    overall = StrangersAt(
        Condition("all", 0, ""), share(0.95, 800), share(0.01, 800), share(0.94, 800), share(0.02, 800)
    )
    return Strangers(
        *(ROWS, 0.6, at, overall, 0.02, (0.51, 0.52, 0.5, 0.53, 0.51), 0.515), Samples(right, wrong, stranger)
    )


def _reading() -> Reading:
    def at(condition: Condition) -> ReadAt:
        return ReadAt(
            condition=condition,
            without=share(0.9),
            with_print=share(0.98),
            titles=share(0.8),
            titles_right=share(0.99, 160),
            lines=share(0.4),
            lines_right=share(0.95, 80),
        )

    def of(cards: str) -> PrintingsRead:
        return PrintingsRead(
            cards=cards,
            without=share(0.5),
            with_print=share(0.8),
            sure_without=share(0.3),
            sure_right_without=share(0.9, 60),
            sure=share(0.7),
            sure_right=share(0.95, 140),
        )

    return Reading(
        rows=ROWS,
        queries=3 * EACH,
        at=tuple(at(condition) for condition in CONDITIONS[:3]),
        overall=at(Condition("all", 3, "conditions")),
        strangers_read=share(0.01),
        printings=(of("with more than one printing"), of("all")),
        by_size=tuple(
            ReadAtSize(rows=rows, names=rows - 10, without=share(1 - rows / 9000), with_print=share(0.98))
            for rows in (66, 262, ROWS)
        ),
        ms=ReadingMs(36.0, 80.0, None, 1.0),
        fusion=Fusion(
            *(5, 30.0, 590),
            (
                ChoiceFound(
                    name="fitted", looks=20, print=15, print_error=4, read_weight=0.75, log_loss=0.1, brier=0.05
                ),
                ChoiceFound(
                    name="by looks alone", looks=18, print=0, print_error=None, read_weight=0, log_loss=0.3, brier=0.1
                ),
            ),
            *(300, 300),
            (
                ConfidenceFound(name="fitted", read_weight=0.75, slope=8.0, even=0.3, log_loss=0.1, brier=0.05),
                ConfidenceFound(name="the index's own", read_weight=1, slope=7.0, even=0.4, log_loss=0.2, brier=0.06),
            ),
        ),
    )


def _predicted() -> list[Predicted]:
    return [Predicted(rows, 1 - 0.01 * rows**0.2, rows > ROWS) for rows in (ROWS, 10_000, 54_000, 117_000)]


def _photographs(photo: str) -> Photographs:
    answers = []
    for number, rank in enumerate((1, 1, 1, None)):
        label = Scored("Island", QUAD, 0.95, rank, 0 if rank else None, None if rank else "recognition")
        card = Named("Island" if rank else HOSTILE, QUAD, True, 0.9)
        answers.append(
            AskedPhoto(
                photo=photo if not rank else f"other{number}.jpg",
                source="made up",
                kind="one card",
                way=WHOLE,
                turn=0,
                photo_size=(240, 320),
                scored=(label,),
                cards=(card,),
                extra=() if rank else (0,),
                strangers=(Named("Swamp", None, False, 0.1),),
                seconds={"read": 0.1, "total": 1.0},
                embedded=3,
            )
        )
    return found_in(answers, ROWS, Options(strangers=True))


def _misses() -> tuple[Miss, ...]:
    return tuple(
        Miss(
            CONDITIONS[number],
            0,
            number,
            HOSTILE,
            2 if number else None,
            0.4,
            number + 1,
            "Ox",
            0.5,
            0.1,
            0.2,
            not number,
        )
        for number in range(5)
    )
