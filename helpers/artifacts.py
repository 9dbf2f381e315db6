"""The names of every file that one stage writes and another reads. Nobody else spells them."""

from dataclasses import dataclass
from pathlib import Path

PART_SUFFIX = ".part"  # a file, or a folder of some, that is still being written; never read by anyone
PICTURE_SUFFIXES = (".jpg", ".png", ".webp")

# image cache, beside the pictures
DOWNLOAD_REPORT = "download_report.json"
CACHE_LOCK = ".lock"
LIST_LOCK = ".list.lock"  # there only while a list is being fetched

STALE_SUFFIX = ".stale"  # a checkpoint of another build, put aside


@dataclass(frozen=True, slots=True)
class IndexFolder:
    """The files of an output folder (`index_out/`), Python's and the browser's."""

    root: Path

    @property
    def embeddings(self) -> Path:
        """float32 [N, D], unit rows."""
        return self.root / "mtg_embeddings.npy"

    @property
    def metadata(self) -> Path:
        """N JSON lines; line i describes row i."""
        return self.root / "mtg_meta.jsonl"

    @property
    def index(self) -> Path:
        """FAISS HNSW over the rows; ids are row numbers."""
        return self.root / "mtg_cards.faiss"

    @property
    def manifest(self) -> Path:
        """Written last: while it is there, the build is whole."""
        return self.root / "build_manifest.json"

    @property
    def build_lock(self) -> Path:
        """Held by the build that writes here, there only while one does."""
        return self.root / ".build.lock"

    @property
    def checkpoint_rows(self) -> Path:
        """float32 [processed, D]: a row for each face of the list so far, zeros where it has no picture."""
        return self.root / "checkpoint_embeddings.npy"

    @property
    def checkpoint_mask(self) -> Path:
        """Which of these rows are good."""
        return self.root / "checkpoint.npz"

    @property
    def checkpoint_meta(self) -> Path:
        """Written last: while it is there, a build is unfinished and can be resumed."""
        return self.root / "checkpoint_meta.json"

    @property
    def browser_vectors(self) -> Path:
        """int8 [N, D], row-major, no header."""
        return self.root / "embeddings.i8bin"

    @property
    def browser_metadata(self) -> Path:
        """Header of `browser_vectors` and the N records."""
        return self.root / "meta.json"
