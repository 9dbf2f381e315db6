"""The names of every file that one stage writes and another reads. Nobody else spells them."""

import re
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
    rank: int = 0  # of a process that builds together with others: each has a checkpoint of its own

    @property
    def embeddings(self) -> Path:
        """float32 [N, D], unit rows."""
        return self.root / "mtg_embeddings.npy"

    @property
    def pictures(self) -> Path:
        """N records; record i says which picture row i was made of, for the next build."""
        return self.root / "mtg_pictures.npy"

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
        return self._checkpoint("_embeddings.npy")

    @property
    def checkpoint_pictures(self) -> Path:
        """Which pictures these rows were made of."""
        return self._checkpoint("_pictures.npy")

    @property
    def checkpoint_mask(self) -> Path:
        """Which of these rows are good."""
        return self._checkpoint(".npz")

    @property
    def checkpoint_meta(self) -> Path:
        """Written last: while it is there, a build is unfinished and can be resumed."""
        return self._checkpoint("_meta.json")

    def _checkpoint(self, ending: str) -> Path:
        return self.root / (f"checkpoint_rank{self.rank}{ending}" if self.rank else f"checkpoint{ending}")

    def of_rank(self, rank: int) -> "IndexFolder":
        """Name the same folder, with the checkpoint of the process of that rank."""
        return IndexFolder(self.root, rank)

    def other_ranks(self, *, aside: bool = False) -> "list[IndexFolder]":
        """The ranks above 0 that left a checkpoint here, or the beginning of one; also `aside` if that is asked for."""
        names = r"checkpoint_rank([1-9]\d*)(_embeddings\.npy|_pictures\.npy|\.npz|_meta\.json)"
        names += rf"(.*{re.escape(STALE_SUFFIX)})?" if aside else ""
        found = (re.fullmatch(names, path.name) for path in self.root.iterdir())
        return [self.of_rank(rank) for rank in sorted({int(match[1]) for match in found if match})]

    @property
    def browser_vectors(self) -> Path:
        """int8 [N, D], row-major, no header."""
        return self.root / "embeddings.i8bin"

    @property
    def browser_metadata(self) -> Path:
        """Header of `browser_vectors` and the N records."""
        return self.root / "meta.json"
