"""Which of a picture's regions the engine takes for cards, asked as a library."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helpers.cards.image_cache import ImageCache
from helpers.errors import PipelineError
from helpers.recognise.finding import iou
from helpers.recognise.query import DETECT, Answer, Card, QueryEngine, most_promising_first
from tests.conftest import Built
from tests.tables import Quad, cluttered, lay, lay_all, plain, where, wooden

TABLE = (1400, 1000)
PLACES = [where((240 + 300 * i, 300), 370, 12 * i - 20) for i in range(4)] + [
    where((330 + 350 * i, 720), 370, 178 - 85 * i, 15) for i in range(3)
]


@pytest.fixture(scope="module")
def engine(recognised: Built) -> QueryEngine:
    return QueryEngine.load(recognised.index, device="cpu", read="off")  # where cards are is not read


@pytest.fixture(scope="module")
def cards(recognised: Built) -> list[tuple[str, Image.Image]]:
    """Each card's name and picture, no name twice."""
    cache, cards = ImageCache(recognised.cache), dict[str, Image.Image]()
    for record in recognised.records():
        cards.setdefault(record["name"], Image.open(cache.path_for(record["image_url"])).convert("RGB"))
    return list(cards.items())


Cards = list[tuple[str, Image.Image]]


def names(answer: Answer) -> list[str]:
    return [card.matches[0].face.name for card in answer.cards]


def at(answer: Answer, quad: Quad) -> Card:
    """The answer's card that lies in `quad`, its own top left corner first."""
    return max(answer.cards, key=lambda card: 0.0 if card.quad is None else iou(np.array(card.quad), quad))


@pytest.fixture(scope="module")
def scene(cards: Cards) -> Image.Image:
    """Seven cards on a wooden table, some of them lying or upside down."""
    return lay_all(wooden(TABLE), PLACES, [picture for _, picture in cards[: len(PLACES)]])


@pytest.fixture(scope="module")
def answered(engine: QueryEngine, scene: Image.Image) -> Answer:
    return engine.ask(scene)


def test_each_card_on_a_table_is_answered_once_where_it_lies(answered: Answer, cards: Cards) -> None:
    assert sorted(names(answered)) == sorted(name for name, _ in cards[: len(PLACES)])
    for quad, (name, _) in zip(PLACES, cards, strict=False):
        card = at(answered, quad)
        assert card.matches[0].face.name == name
        assert np.abs(np.array(card.quad) - quad).max() < 25  # and the right way up
        assert card.sure


def test_an_answer_says_how_each_card_is_turned(answered: Answer) -> None:
    turned = [at(answered, quad).orientation for quad in PLACES]
    assert turned == [0, 0, 0, 0, 180, 90, 0]


@pytest.fixture(scope="module")
def everything(engine: QueryEngine, scene: Image.Image) -> Answer:
    return engine.ask(scene, detect="all")


def test_no_card_of_an_answer_lies_on_another(answered: Answer, everything: Answer) -> None:
    for answer in (answered, everything):
        quads = [np.array(card.quad) for card in answer.cards if card.quad is not None]
        for i, one in enumerate(quads):
            assert max((iou(one, other) for other in quads[:i]), default=0) < 0.3


def test_a_text_box_never_beats_its_card(engine: QueryEngine, cards: Cards) -> None:
    quad = where((500, 375), 640, 6)
    for name, picture in cards[:3]:
        answer = engine.ask(lay(plain(), picture, quad))
        assert names(answer) == [name]
        assert iou(np.array(answer.cards[0].quad), quad) > 0.8


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_picture_of_a_card_that_lies_or_stands_on_its_head_is_answered(
    engine: QueryEngine, cards: Cards, turn: int
) -> None:
    name, picture = cards[turn // 90]
    answer = engine.ask(picture.rotate(-turn, expand=True))
    assert names(answer) == [name]
    assert answer.cards[0].orientation == turn
    assert answer.cards[0].sure


@pytest.mark.parametrize("table", [plain, wooden, cluttered])
def test_a_picture_without_a_card_is_never_sure(engine: QueryEngine, table: Callable[[], Image.Image]) -> None:
    answer = engine.ask(table())
    assert len(answer.cards) == 1  # the best guess
    assert not answer.cards[0].sure


def test_a_blank_card_is_never_sure(engine: QueryEngine, recognised: Built) -> None:
    picture = lay(plain(), Image.new("RGB", (252, 352), "white"), where((500, 375), 500, 10))
    for asked in (engine, QueryEngine.load(recognised.index, device="cpu")):
        assert not any(card.sure for card in asked.ask(picture).cards)


def test_without_detection_the_whole_picture_is_asked(engine: QueryEngine, cards: Cards, scene: Image.Image) -> None:
    name, picture = cards[2]
    answer = engine.ask(picture, detect="off")
    assert names(answer) == [name]
    for one in (answer, engine.ask(scene, detect="off")):
        (card,) = one.cards
        assert (card.quad, card.orientation, one.embedded) == (None, 0, 1)


def test_all_regions_include_the_cards_that_are_found(answered: Answer, everything: Answer) -> None:
    assert len(everything.cards) >= len(answered.cards)
    assert [card for card in everything.cards if card in answered.cards] == list(answered.cards)


def test_a_masked_name_is_never_an_answer_and_its_card_is_not_sure(engine: QueryEngine, cards: Cards) -> None:
    name, picture = cards[1]
    answer = engine.ask(lay(plain(), picture, where((500, 375), 600)), k=100, without=[name])
    assert answer.cards
    for card in answer.cards:
        assert name not in {match.face.name for match in card.matches}
        assert not card.sure


@pytest.mark.parametrize("detect", DETECT)
def test_where_all_names_are_masked_no_card_is_answered(engine: QueryEngine, cards: Cards, detect: str) -> None:
    answer = engine.ask(cards[0][1], detect=detect, without=[name for name, _ in cards])
    assert (answer.error, answer.cards) == (None, ())


def test_an_unknown_way_to_detect_is_an_error(engine: QueryEngine, cards: Cards) -> None:
    with pytest.raises(PipelineError, match="must be one of auto, off, all"):
        engine.ask(cards[0][1], detect="none")


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (47, 47)])
def test_a_tiny_picture_has_an_answer_and_it_is_not_sure(engine: QueryEngine, size: tuple[int, int]) -> None:
    for detect in ("auto", "off", "all"):
        answer = engine.ask(Image.new("RGB", size, "red"), detect=detect)
        assert answer.error is None
        assert not answer.cards[0].sure


def test_a_card_under_a_hand_is_answered(engine: QueryEngine, cards: Cards) -> None:
    name, picture = cards[4]
    table = lay(wooden(), picture, where((500, 375), 600, 5))
    ImageDraw.Draw(table).rounded_rectangle((610, 450, 800, 800), 60, (205, 160, 135))
    assert names(engine.ask(table)) == [name]


def test_clear_outlines_and_near_hashes_take_turns() -> None:
    bits = np.array([90, 110, 100, 95, 40, 30, 105, 120], np.int32)  # regions come clearest outline first
    assert most_promising_first(8, bits)[:4] == [0, 5, 1, 4]
    assert sorted(most_promising_first(8, bits)) == list(range(8))
    assert most_promising_first(3, None) == [0, 1, 2]
