"""The page with a stand-in for the recogniser: a server of both, faces, answers, and pictures to show."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from PIL import Image, ImageDraw
from serve_web import Server, Tree

from helpers.artifacts import WEB
from tests.conftest import ROOT

STUB = ROOT / "tests" / "web_stub.js"
Told = dict[str, Any]  # as JSON
SETS = {"tsa": "Test Beginnings", "tsb": "Test Remastered", "tsc": "Chronicles of Testing"}
WORDS = (
    "Ashen",
    "Bright",
    "Cold",
    "Dusk",
    "Ember",
    "Frost",
    "Gilded",
    "Hollow",
    "Iron",
    "Jade",
    "Keen",
    "Lost",
    "Moon",
)
BEINGS = ["Archer", "Bear", "Codex", "Drake", "Elf", "Falcon", "Golem", "Hydra", "Island", "Jester"]
FACES = [
    {
        "name": f"{word} {being}",
        "set": list(SETS)[(i + j) % 3],
        "set_name": SETS[list(SETS)[(i + j) % 3]],
        "collector_number": str(10 * i + j),
        "image_url": f"https://cards.invalid/normal/{i}{j}.jpg?1",
        "card_url": f"https://cards.invalid/large/{i}{j}.jpg?1",
        "scryfall_uri": f"https://scryfall.com/card/tst/{i}{j}",
        "type_line": f"Creature — {being}",
        "artist": "Lena Varga",
        "released_at": "2024-03-22",
        "lang": "en",
    }
    for i, word in enumerate(WORDS)
    for j, being in enumerate(BEINGS)
]


@contextmanager
def site(folder: Path, *more: Path) -> Iterator[str]:
    """Serve web/ with the stand-in for the recogniser and pictures of all faces, which are put in `folder`."""
    stub, pictures = folder / "site" / "recogniser" / "index.js", folder / "pictures"
    if not stub.exists():
        stub.parent.mkdir(parents=True)
        shutil.copyfile(STUB, stub)
        pictures.mkdir()
        for face in FACES:
            draw_card(face).resize((122, 170)).save(pictures / picture_name(face["image_url"]), quality=70)
    with Server(("127.0.0.1", 0), Tree((*more, folder / "site", WEB), pictures)) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server.url
        finally:
            server.shutdown()


def picture_name(url: str) -> str:
    """The name of a picture in an image cache, said independently of the product."""
    return hashlib.sha1(url.encode()).hexdigest() + ".jpg"


def draw_card(face: Mapping[str, Any]) -> Image.Image:
    """Something card-like of its own colours."""
    digest = hashlib.sha1(face["name"].encode()).digest()
    image = Image.new("RGB", (488, 680), tuple(40 + c // 2 for c in digest[:3]))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((20, 20, 468, 660), 20, fill=tuple(120 + c // 2 for c in digest[3:6]))
    draw.rectangle((40, 80, 448, 380), fill=tuple(digest[6:9]))
    draw.ellipse((130, 120, 340, 340), fill=tuple(digest[9:12]))
    draw.text((40, 36), face["name"], fill="black", font_size=32)
    return image


def draw_photo(*faces: Mapping[str, Any]) -> Image.Image:
    """Cards side by side on a table; `quad_at` says where."""
    photo = Image.new("RGB", (480 * len(faces), 640), (72, 60, 52))
    for i, face in enumerate(faces):
        photo.paste(draw_card(face).resize((352, 490)), (64 + 480 * i, 75))
    return photo


def quad_at(place: int) -> list[list[float]]:
    left = 64 + 480 * place
    return [[left, 75], [left + 352, 75], [left + 352, 565], [left, 565]]


def matched(row: int, score: float) -> dict[str, Any]:
    return {"row": row, "score": score, "face": FACES[row]}


def card(row: int, place: int = 0, *, sure: bool | None = True, **more: Any) -> dict[str, Any]:
    """A card as the recogniser tells of it."""
    return {
        "quad": quad_at(place),
        "orientation": 0,
        "matches": [matched(row + i, (1.4 if sure else 0.9) - 0.1 * i) for i in range(5)],
        "printings": [matched(row, 1.4)],
        "printingSure": True,
        "margin": 0.52 if sure else 0.04,
        "gap": 0.6,
        "sure": sure,
        "confidence": 0.99 if sure else 0.41,
        **more,
    }


def answer(*cards: dict[str, Any]) -> dict[str, Any]:
    return {
        "size": [480 * max(len(cards), 1), 640],
        "cards": list(cards),
        "embedded": len(cards),
        "seconds": {"read": 0.01, "detect": 0.03, "embed": 0.03, "search": 0.001},
    }


def error(
    code: str, message: str = "It broke", details: str = "a detail", suggestion: str = "Mend it"
) -> dict[str, str]:
    return {"code": code, "message": message, "details": details, "suggestion": suggestion}


def scenario(**more: Any) -> str:
    """A script that says what the stand-in does; to be run before the page's."""
    return f"globalThis.scenario = {json.dumps({'faces': FACES, 'ready': 'yes', **more})};"


def write_y4m(path: Path, frames: list[Image.Image], rate: int = 10) -> None:
    """A film of `rate` frames a second for --use-file-for-fake-video-capture: YUV 4:2:0, limited range."""
    width, height = frames[0].size
    with open(path, "wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            luma, *chroma = frame.convert("YCbCr").split()
            small = [plane.resize((width // 2, height // 2)).point(lambda v: 16 + v * 224 // 255) for plane in chroma]
            planes = [luma.point(lambda v: 16 + v * 219 // 255), *small]
            file.write(b"FRAME\n" + b"".join(plane.tobytes() for plane in planes))
