"""`make bench-embed`: images a second of the model alone, of ours end to end, and of two other designs.

All in one run, on the same files, in turn; medians of ROUNDS (3). The model alone embeds batches that lie ready in
memory: on each core by itself, as ours does, and one batch on all cores, as the others do; the quicker of the two is
what the others are held against. Ours is the stage that build_embeddings.py has, checkpoints and all. Upstream's way:
a pool for each chunk verifies and decodes, then each picture is cropped, brought to 384 and preprocessed, then the
model gets the chunk. The DataLoader is clip-retrieval's design: torch's worker processes decode and preprocess, the
model gets what they made. Weights are random where the model is CLIP's: that is no matter for speed. Pictures are the
real cards' where they are there, else drawn noise. FILES (192) are embedded, FEW (48) where that is slow: fewer than
some dozens say nothing, since the first pictures of each round wait for no model.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip import transform as open_clip_transform
from PIL import Image, ImageOps

from helpers.artifacts import IndexFolder
from helpers.build.making import make_rows
from helpers.build.report import BuildReport
from helpers.build.rows import open_checkpoint
from helpers.cards.faces import Records
from helpers.cards.image_cache import ImageCache
from helpers.cards.pictures import picture_of
from helpers.embed.embedder import DTYPES, Embedder
from helpers.embed.model_source import ModelSource
from helpers.embed.precision import SAMPLE, settle_precision
from helpers.embed.preprocess import Preparation
from helpers.embed.settings import Settings
from helpers.embed.stage import WorkerPlan, plan_workers, sample
from helpers.machine_limits import usable_cores
from helpers.validation import decode_image, read_content
from tests.conftest import REAL, run_well
from tests.faces import face_with
from tests.fast_server import picture

FILES, FEW = int(os.environ.get("FILES", "192")), int(os.environ.get("FEW", "48"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
CHUNK = 64  # of upstream, and of the DataLoader
SETTINGS = Settings(model="m", weights_sha256="w", precision="p", preprocessing="p", target_size=384, fit="pad")
SIZES = {"jpg": (488, 680), "webp": (488, 680), "png": (745, 1040)}  # as Scryfall's normal, grid, png


@dataclass(frozen=True)
class Source:
    """Faces, and the cache that has their pictures."""

    faces: Records
    cache: ImageCache


def pictures(count: int) -> Iterator[Image.Image]:
    """`count` cards: real ones where they are there, else noise that takes as long to decode."""
    found = sorted((REAL / "cards").rglob("*.jpg"))[:count]
    if found:
        yield from (Image.open(path).convert("RGB") for path in found)
    else:
        yield from (Image.open(BytesIO(picture(seed))) for seed in range(count))


def make_source(folder: Path, ending: str, count: int) -> Source:
    """A cache of `count` pictures in one format, and the faces that they are of."""
    cache = ImageCache(folder / ending)
    cache.root.mkdir()
    urls = [f"https://example/{number}.{ending}" for number in range(count)]
    faces = [face_with(face_id=url, image_url=url) for url in urls]
    for face, image in zip(faces, pictures(count), strict=True):
        sized = image.resize(SIZES[ending]).convert("RGBA" if ending == "png" else "RGB")
        sized.save(cache.path_for(face.image_url), quality=88)  # about as large as Scryfall's
    lines = folder / f"{ending}.jsonl"
    lines.write_bytes(b"".join(face.to_json() + b"\n" for face in faces))
    with open(lines, "rb") as file:
        return Source(Records(file, lines), cache)


# ------------------------------------------------------------------------------------------------------- the designs


def on_each_core(embedder: Embedder, prepared: list[torch.Tensor], workers: WorkerPlan) -> None:
    """The model alone, a batch on each core."""
    batches = [prepared[start : start + workers.batch] for start in range(0, len(prepared), workers.batch)]
    with embedder.for_many(), ThreadPoolExecutor(workers.model_threads) as pool:
        list(pool.map(embedder.encode, batches))


def on_all_cores(embedder: Embedder, prepared: list[torch.Tensor], batch: int) -> None:
    """The model alone, one batch at a time."""
    for start in range(0, len(prepared), batch):
        embedder.encode(prepared[start : start + batch])


def ours(embedder: Embedder, source: Source, workers: WorkerPlan, out: Path) -> None:
    """The stage as it is."""
    report, which = BuildReport(), range(len(source.faces))
    with open_checkpoint(IndexFolder(out), SETTINGS, 500, resume=False) as checkpoint:
        make_rows(source.faces, which, source.cache, embedder, workers, checkpoint, report, verify=True)
        checkpoint.drop()
    assert report.embedded == len(source.faces)


def upstream(model: torch.nn.Module, preprocess: Callable[[Image.Image], torch.Tensor], paths: list[Path]) -> None:
    """Verify and decode a chunk in a pool, prepare picture by picture, then the model."""

    def load(path: Path) -> Image.Image:
        with Image.open(path) as image:
            image.verify()
        image = Image.open(path)
        image.load()
        return image.convert("RGB")

    for start in range(0, len(paths), CHUNK):
        with ThreadPoolExecutor(usable_cores()) as pool:
            loaded = list(pool.map(load, paths[start : start + CHUNK]))
        squares = [ImageOps.fit(image, (384, 384), Image.Resampling.BICUBIC) for image in loaded]
        with torch.no_grad():
            model(torch.stack([preprocess(square) for square in squares])).float().numpy()


class Files(torch.utils.data.Dataset[torch.Tensor]):
    """What a DataLoader's workers do."""

    def __init__(self, paths: list[Path], preprocess: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths, self.preprocess = paths, preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.preprocess(Image.open(self.paths[number]))


def data_loader(
    model: torch.nn.Module, preprocess: Callable[[Image.Image], torch.Tensor], paths: list[Path], dtype: torch.dtype
) -> None:
    """Worker processes decode and preprocess ahead of the model."""
    loader = torch.utils.data.DataLoader(
        Files(paths, preprocess), batch_size=CHUNK, num_workers=usable_cores(), prefetch_factor=2
    )
    with torch.no_grad():
        for batch in loader:
            model(batch.to(dtype)).float().numpy()


# -------------------------------------------------------------------------------------------------------- measuring


def compare(name: str, runs: dict[str, Callable[[], object]], count: int) -> dict[str, float]:
    """Images a second of each of `runs`, which take turns; medians, printed."""
    rates: dict[str, list[float]] = {design: [] for design in runs}
    for _ in range(ROUNDS):
        for design, run in runs.items():
            started = time.monotonic()
            run()
            rates[design].append(count / (time.monotonic() - started))
    medians = {design: statistics.median(found) for design, found in rates.items()}
    alone = max(medians["model alone, each core"], medians["model alone, all cores"])
    print(f"\n{name}, {count} pictures")
    print(f"  {'':24} {'images/s':>8}  of the model alone (the quicker way)   each round")
    for design, rate in medians.items():
        each = " ".join(f"{found:.2f}" for found in rates[design])
        print(f"  {design:24} {rate:8.2f}  {rate / alone:18.3f} {'':18} {each}")
    for design in ("upstream's way", "DataLoader"):
        if design in medians:
            print(f"  ours / {design}: {medians['ours'] / medians[design]:.2f}")
    return medians


def where_it_goes(embedder: Embedder, source: Source, workers: WorkerPlan) -> None:
    """Print what a picture costs, in milliseconds of one core."""
    paths = [source.cache.path_for(face.image_url) for face in islice(source.faces, FEW)]
    contents = [read_content(path) for path in paths]
    images = [decode_image(content.data) for content in contents]
    prepared = [embedder.prepare(image) for image in images]
    steps: dict[str, Callable[[], object]] = {
        "read": lambda: [read_content(path) for path in paths],
        "hash": lambda: [picture_of("https://x/1.jpg", content) for content in contents],
        "decode": lambda: [decode_image(content.data) for content in contents],
        "prepare": lambda: [embedder.prepare(image) for image in images],
        "model": lambda: on_all_cores(embedder, prepared, workers.batch),
    }
    print("  ms of one core a picture:", end="")
    with embedder.for_many():
        for name, step in steps.items():
            spent = []
            for _ in range(ROUNDS):
                before = time.process_time()
                step()
                spent.append(1000 * (time.process_time() - before) / len(paths))
            print(f" {name} {statistics.median(spent):.2f}", end="", flush=True)
    print()


@contextmanager
def quiet() -> Iterator[None]:
    """open_clip warns of random weights, which are wanted here."""
    import logging

    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def random_clip() -> Embedder:
    """ViT-B/32 as CLIP has it, with random weights."""
    with quiet():
        torch.manual_seed(0)
        model = open_clip.create_model("ViT-B-32-quickgelu")
    model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return Embedder(ModelSource("ViT-B-32-quickgelu", None), Preparation(384, "pad"), torch.device("cpu"), model)


def designs(embedder: Embedder, source: Source, out: Path, *, others: bool) -> dict[str, Callable[[], object]]:
    """What is compared on `source`."""
    workers = plan_workers(embedder)
    paths = [source.cache.path_for(face.image_url) for face in source.faces]
    prepared = [embedder.prepare(decode_image(read_content(path).data)) for path in paths]
    found: dict[str, Callable[[], object]] = {
        "model alone, each core": lambda: on_each_core(embedder, prepared, workers),
        "model alone, all cores": lambda: on_all_cores(embedder, prepared, 32),
        "ours": lambda: ours(embedder, source, workers, out),
    }
    if others:
        model, dtype = embedder.tower, DTYPES[embedder.precision]
        cfg = open_clip_transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        preprocess = open_clip_transform.image_transform_v2(cfg, is_train=False)
        if dtype == torch.float32:
            found["upstream's way"] = lambda: upstream(model, preprocess, paths)
        found["DataLoader"] = lambda: data_loader(model, preprocess, paths, dtype)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_well("scripts/make_offline_model.py", "--out", folder / "offline")
        out = folder / "out"
        out.mkdir()
        sources = {ending: make_source(folder, ending, FILES if ending == "jpg" else FEW) for ending in SIZES}
        few = make_source(Path(tempfile.mkdtemp(dir=folder)), "jpg", FEW)
        clip = random_clip()
        offline = Embedder.load(ModelSource(f"local-dir:{folder / 'offline'}", None), clip.preparation, "cpu")
        sizes = [path.stat().st_size for path in sources["jpg"].cache.pictures()]
        print(f"{usable_cores()} cores, torch {torch.__version__}; {np.mean(sizes) / 1000:.0f} KB a JPEG")
        for model_name, embedder in (("ViT-B/32", clip), ("the offline model", offline)):
            for ending, source in sources.items():
                runs = designs(embedder, source, out, others=ending == "jpg")
                compare(f"{model_name}, fp32, {ending}", runs, len(source.faces))
                where_it_goes(embedder, source, plan_workers(embedder))
        clip.use("bf16")
        compare("ViT-B/32, bf16, jpg", designs(clip, few, out, others=True), FEW)
        chosen = settle_precision(offline, "auto", [], lambda: sample(few.faces, few.cache, offline, SAMPLE))
        print(f"\nprecision of the offline model: {offline.precision} ({chosen})")


if __name__ == "__main__":
    main()
