"""The encoder of an index for a browser: its own model as ONNX, checked on its own cards, with a reference picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from helpers.artifacts import IndexFolder
from helpers.cards.image_cache import ImageCache
from helpers.errors import Category, PipelineError
from helpers.index.bundle import BundleFile, Encoder
from helpers.index.store import StoredIndex
from helpers.recognise.query import embedder_of, find_model_of, pictures_of
from helpers.talk import say
from helpers.validation import BrokenImage, read_image

if TYPE_CHECKING:
    from helpers.embed.embedder import Embedder

CHECKED = 20  # cards whose vectors are compared with torch's
_SEED = 20


@dataclass(frozen=True, slots=True)
class EncoderMaker:
    """Writes the encoder of `stored` in each of `precisions`, see `bundle.ENCODER_PRECISIONS`."""

    stored: StoredIndex
    precisions: Sequence[str]
    cache: Path | None = None  # the pictures' directory; None: where the index says

    def write(self, staged: IndexFolder) -> Encoder:
        """Write encoders and reference picture into `staged`.

        PipelineError if the model is not the index's, if there are no pictures to check it on, or if it fails.
        """
        from helpers.embed import onnx  # torch: seconds

        manifest = self.stored.manifest
        if manifest.model.input is None:
            raise PipelineError.of(
                Category.CONFIGURATION,
                "the index does not say how the model's input is made: an earlier version built it",
                details=f"{self.stored.folder.manifest} has no model.input",
                suggestion="build it again with build_embeddings.py, which keeps its rows",
            )
        find_model_of(self.stored)
        cards = self._cards()
        embedder = embedder_of(self.stored, "cpu", exact=True)
        pictures = [embedder.prepare(card) for card in cards]
        say(f"Exporting {embedder.source} ({', '.join(self.precisions)}): a minute, or several for a large model")
        exact, files = onnx.tower_as_onnx(embedder), []
        for precision in self.precisions:
            path = staged.browser_encoder(precision)
            onnx.write_encoder(exact, precision, path)
            cosine = onnx.check_encoder(path, precision, embedder, pictures)
            say(f"{path.name}: cosine to torch at least {cosine.least:.6f}, mean {cosine.mean:.6f}")
            files.append(BundleFile(path=path.name, role="encoder", precision=precision, cosine=cosine._asdict()))
        files.append(BundleFile(path=staged.browser_reference.name, role="reference"))
        return Encoder(files, _write_reference(embedder, cards[0], staged.browser_reference))

    def _cards(self) -> list[Image.Image]:
        """Pictures of some cards of the index; PipelineError if none can be read."""
        cache = pictures_of(self.stored, self.cache)
        found = list(islice(self._readable(cache), CHECKED))
        if not found:
            raise PipelineError.of(
                Category.CONFIGURATION,
                "the encoder can't be checked: no picture of the index's cards can be read",
                details=f"none is in {cache.root}",
                suggestion="name the directory that it was built from: --cache DIR",
            )
        return found

    def _readable(self, cache: ImageCache) -> Iterator[Image.Image]:
        records = self.stored.records()
        for row in np.random.default_rng(_SEED).permutation(len(records)).tolist():
            try:
                yield read_image(cache.path_for(records[row].image_url))
            except (FileNotFoundError, NotADirectoryError, BrokenImage):
                continue


def _write_reference(embedder: Embedder, card: Image.Image, path: Path) -> list[float]:
    """Write the card on its canvas, and return the canvas's vector, in as many digits as float32 has."""
    canvas = Image.fromarray(embedder.preparation.apply(card).permute(1, 2, 0).contiguous().numpy())
    canvas.save(path, "PNG")
    return [float(str(value)) for value in embedder.encode([embedder.prepare(canvas)])[0]]
