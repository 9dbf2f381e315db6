import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.cards.faces import IMAGE_KEYS, CardFace, image_key_order

text = st.text(max_size=30)
optional = st.none() | text
faces = st.builds(
    CardFace,
    **dict.fromkeys(
        ("name", "scryfall_id", "face_id", "set", "collector_number", "image_url", "card_url", "card_name"), text
    ),
    **dict.fromkeys(("oracle_id", "illustration_id", "frame", "layout", "lang", "scryfall_uri", "artist"), optional),
    colors=st.lists(text, max_size=3),
    **dict.fromkeys(("type_line", "oracle_text", "set_name", "rarity", "released_at", "border_color"), optional),
    printed_name=optional,
    **dict.fromkeys(("promo", "variation"), st.none() | st.booleans()),
    **dict.fromkeys(("promo_types", "finishes", "frame_effects"), st.lists(text, max_size=3).map(tuple)),
)


@given(faces)
def test_a_face_survives_its_line_of_json(face: CardFace) -> None:
    line = face.to_json()
    assert b"\n" not in line
    assert CardFace.from_json(line) == face


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ("normal", ("normal", "grid", "large", "display", "png", "small", "thumb")),
        ("grid", ("grid", "normal", "display", "large", "png", "thumb", "small")),
        ("png", ("png", "large", "display", "normal", "grid", "small", "thumb")),
        ("border_crop", ("border_crop", "crop", "large", "display", "png")),
        ("art", ("art", "art_crop")),
    ],
)
def test_a_missing_key_falls_back_to_its_twin_then_to_the_next_larger(wanted: str, order: tuple[str, ...]) -> None:
    assert image_key_order(wanted) == order


@pytest.mark.parametrize("key", IMAGE_KEYS)
def test_every_key_comes_first_in_its_own_order_and_once(key: str) -> None:
    order = image_key_order(key)
    assert order[0] == key
    assert len(set(order)) == len(order)
