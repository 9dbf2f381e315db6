"""A cache as a download leaves it, made at once: a list, and small pictures that are all different or hard links."""

import gzip
import json
import math
import os
from pathlib import Path

import open_clip
import torch

from helpers.cards.image_cache import ImageCache
from tests.pictures import encoded

DIFFERENT = 300  # pictures; the others are hard links to these, where that is allowed


def url(number: int) -> str:
    return f"https://cards.example/normal/{number}.jpg"


def make_cache(folder: Path, sets: list[str], *, links: bool = False) -> ImageCache:
    """A card for each of `sets`, in that order, and its picture."""
    folder.mkdir()
    cache = ImageCache(folder)
    cards = (
        {"id": f"id-{number}", "name": f"Card {number}", "set": code, "image_uris": {"normal": url(number)}}
        for number, code in enumerate(sets)
    )
    lines = b"".join(json.dumps(card).encode() + b"\n" for card in cards)
    (folder / "unique_artwork-20261101000000.jsonl.gz").write_bytes(gzip.compress(lines, 1))
    for number in range(len(sets)):
        path = cache.path_for(url(number))
        if links and number >= DIFFERENT:
            os.link(cache.path_for(url(number % DIFFERENT)), path)
        else:
            path.write_bytes(encoded(seed=number))
    return cache


def make_tiny_model(folder: Path, *, reads: bool = False, **preprocess: object) -> Path:
    """An open_clip folder with a transformer of one layer and random weights: quick, and good for nothing else.

    `reads`: its text tower takes open_clip's tokens and passes for trained. `preprocess` is more of open_clip's
    `preprocess_cfg`.
    """
    folder.mkdir(exist_ok=True)
    config = {
        "model_cfg": {
            "embed_dim": 512,
            "vision_cfg": {"image_size": 224, "layers": 1, "width": 64, "head_width": 32, "patch_size": 32},
            "text_cfg": {
                "context_length": 8,
                "vocab_size": 49408 if reads else 16,
                "width": 32,
                "heads": 1,
                "layers": 1,
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], **preprocess},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config["model_cfg"])
    if reads:
        model.logit_scale.data.fill_(math.log(100))  # where OpenAI's training ended
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder
