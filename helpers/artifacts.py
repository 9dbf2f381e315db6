"""The names of every file that one stage writes and another reads. They are spelled nowhere else."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import Category, PipelineError

PART_SUFFIX = ".part"  # a file or folder that is still being written; never read
STALE_SUFFIX = ".stale"  # a checkpoint put aside
PICTURE_SUFFIXES = (".jpg", ".png", ".webp")

# the browser's page, which is part of the project
WEB = Path(__file__).resolve().parent.parent / "web"
VENDORED = "manifest.json"  # what scripts/vendor_web.py fetched, in web/vendor/

# image cache, beside the pictures
DOWNLOAD_REPORT = "download_report.json"
CACHE_LOCK = ".lock"
LIST_LOCK = ".list.lock"  # exists only while a list is being downloaded


@dataclass(frozen=True, slots=True)
class IndexFolder:
    """The files of an output folder (`index_out/`), Python's and the browser's."""

    root: Path
    rank: int = 0  # of a process in a distributed build: each has its own checkpoint
    is_aside: bool = False  # it holds nothing but a checkpoint that was put aside

    def column(self, name: str) -> Path:
        """A column of the N rows.

        `embeddings`, float32 [N, D], unit rows; `pictures`, what each was made from; `dhash`, uint8 [N, 32], the
        difference hash of each picture, which indexes built by earlier versions lack.
        """
        return self.root / f"mtg_{name}.npy"

    @property
    def metadata(self) -> Path:
        """N JSON lines; line i describes row i."""
        return self.root / "mtg_meta.jsonl"

    @property
    def index(self) -> Path:
        """FAISS HNSW over the rows; ids are row numbers."""
        return self.root / "mtg_cards.faiss"

    @property
    def whitening(self) -> Path:
        """The map of the rows to whitened ones; absent if the index was built without, as the next file."""
        return self.root / "whitening.npz"

    @property
    def whitened_index(self) -> Path:
        """FAISS HNSW over the whitened rows behind that map: it takes vectors as the rows are."""
        return self.root / "mtg_cards_whitened.faiss"

    @property
    def manifest(self) -> Path:
        """Written last: while it exists, the build is complete."""
        return self.root / "build_manifest.json"

    @property
    def evaluation(self) -> Path:
        """How good the index is, as evaluate_index.py found it; never needed."""
        return self.root / "evaluation.json"

    @property
    def evaluation_page(self) -> Path:
        """The same for people."""
        return self.root / "evaluation.html"

    @property
    def build_lock(self) -> Path:
        """Held by the build that writes here; exists only while one does."""
        return self.root / ".build.lock"

    def checkpoint_column(self, name: str) -> Path:
        """A column of the rows made so far, in the order made; the same columns as in an index."""
        return self._checkpoint(f"_{name}.npy")

    @property
    def checkpoint_mask(self) -> Path:
        """Which of these rows are good."""
        return self._checkpoint(".npz")

    @property
    def checkpoint_meta(self) -> Path:
        """Written last: while it exists, a build is unfinished and can be resumed."""
        return self._checkpoint("_meta.json")

    def _checkpoint(self, ending: str) -> Path:
        return self.root / (f"checkpoint_rank{self.rank}{ending}" if self.rank else f"checkpoint{ending}")

    def checkpoint_files(self, columns: Iterable[str]) -> list[Path]:
        """All files of a checkpoint; the one that vouches for the others comes first."""
        return [self.checkpoint_meta, self.checkpoint_mask, *map(self.checkpoint_column, columns)]

    def other_ranks(self) -> "list[IndexFolder]":
        """The ranks above 0 that left a checkpoint here, or part of one."""
        found = (re.fullmatch(r"checkpoint_rank([1-9]\d*)(_\w+)?\.(npy|npz|json)", p.name) for p in self.root.iterdir())
        return [IndexFolder(self.root, rank) for rank in sorted({int(match[1]) for match in found if match})]

    def stale(self, name: str) -> "IndexFolder":
        """Where a checkpoint is put aside."""
        return IndexFolder(self.root / f"checkpoint-{name}{STALE_SUFFIX}", is_aside=True)

    def all_stale(self) -> "list[IndexFolder]":
        """The checkpoints that were put aside, by the digests of their settings; not the damaged ones."""
        return [self.stale(path.name[11:19]) for path in sorted(self.root.glob(f"checkpoint-????????{STALE_SUFFIX}"))]

    def for_damaged(self) -> "IndexFolder":
        """Where a damaged checkpoint is put aside: a folder that is not there yet."""
        names = ("damaged", *(f"damaged-{number}" for number in range(2, 1000)))
        return next(folder for folder in map(self.stale, names) if not folder.root.exists())

    def table(self, format: str) -> Path:
        """A row a face, for other tools; a folder in Lance's format."""
        return self.root / f"cards.{format}"

    @property
    def browser_vectors(self) -> Path:
        """int8 [N, D], row-major, no header."""
        return self.root / "embeddings.i8bin"

    @property
    def browser_hashes(self) -> Path:
        """uint8 [N, 32], row-major, no header; absent if the index has no hashes."""
        return self.root / "dhash.u8bin"

    @property
    def browser_whitened(self) -> Path:
        """int8 [N, K], row-major, no header: the whitened rows; absent if the index has none, as the next file."""
        return self.root / "embeddings_whitened.i8bin"

    @property
    def browser_whitening(self) -> Path:
        """float32, little-endian, no header: mean [D], then axes [D, K], row-major."""
        return self.root / "whitening.f32bin"

    @property
    def browser_metadata(self) -> Path:
        """Header of the other browser files, and the N records."""
        return self.root / "meta.json"

    @property
    def browser_bundle(self) -> Path:
        """Written last: what the export consists of, each file with its SHA-256."""
        return self.root / "bundle.json"

    def browser_encoder(self, precision: str) -> Path:
        """The image tower as ONNX, its weights stored in `precision`."""
        return self.root / f"encoder-{precision}.onnx"

    @property
    def browser_reference(self) -> Path:
        """One card's picture on the canvas, by which a client checks its device; absent without an encoder."""
        return self.root / "reference.png"

    @staticmethod
    def browser_part(whole: Path, number: int) -> Path:
        """Where part `number` of a browser file is that is split by rows."""
        return whole.with_stem(f"{whole.stem}-{number:05}")

    def browser_records(self, number: int) -> Path:
        """Where part `number` of the records is; the whole of them is in `browser_metadata`."""
        return self.browser_part(self.root / "records.json", number)

    def is_browser_file(self, name: str) -> bool:
        """Whether an export may have a file of that name, parts and compressed copies among them."""
        own = [self.browser_vectors, self.browser_hashes, self.browser_whitened, self.browser_whitening]
        own += [self.browser_metadata, self.browser_bundle, self.browser_reference]
        names = [re.escape(path.stem) + r"(-\d{5,})?" + re.escape(path.suffix) for path in own]
        names += [r"records-\d{5,}[.]json", r"encoder-[a-z0-9]+[.]onnx"]
        return bool(re.fullmatch(rf"({'|'.join(names)})([.]gz|[.]br)?", name))


def disagreement(path: Path, details: str) -> PipelineError:
    """The error for a file of an index folder that does not fit the others."""
    return PipelineError.of(
        Category.VALIDATION,
        f"{path} does not belong to this index",
        details=details,
        suggestion="build the index again with build_embeddings.py",
    )


def unreadable(path: Path, error: OSError) -> PipelineError:
    """The error for a file that can't be read, whatever is in it."""
    return PipelineError.of(
        Category.CONFIGURATION,
        f"{path} can't be read",
        details=error.strerror or str(error),
        suggestion="check the disk or the mount, then run the same command again; nothing was changed",
    )
