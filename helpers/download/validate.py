"""Is every picture in a cache whole? All cores decode; broken pictures are listed, and deleted on request."""

import os
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from helpers.atomic_io import atomic_write_json, utc_timestamp
from helpers.cards.bulk_list import expected_cards, kept_lists
from helpers.cards.card_list import all_addresses
from helpers.cards.image_cache import ImageCache
from helpers.errors import Category, ExitCode, PipelineError
from helpers.lookahead import in_order
from helpers.machine_limits import usable_cores
from helpers.talk import Progress, percent, say, text_of, warn
from helpers.validation import BrokenImage, UnreadableImage, check_file

REPORT_VERSION = "1.0.0"
WORKERS = usable_cores()  # Pillow releases the GIL while decoding
AHEAD = 16 * WORKERS  # pictures in flight: enough to keep all cores busy, few enough to stop at once


@dataclass(frozen=True, slots=True)
class Invalid:
    """A picture that is not whole. `stat` is its state when it was checked, None if it was gone.

    A file that could not be read is invalid, too, but may be whole, so it is not `deletable`.
    """

    path: Path
    reason: str
    stat: os.stat_result | None
    deletable: bool = True


@dataclass(slots=True)
class ValidationReport:
    """Counts the pictures checked, keeps the invalid ones, and sums up."""

    cache: Path
    total: int = 0
    invalid: list[Invalid] = field(default_factory=list)
    orphans: list[Path] | None = None  # in no list any more; None: not asked for
    removed: int | None = None  # None: not asked for

    def progress_note(self) -> str:
        """Invalid ones so far, for the progress line."""
        return f"{len(self.invalid):,} invalid"

    def summary(self) -> str:
        """What the user reads at the end."""
        valid = self.total - len(self.invalid)
        lines = [
            f"Pictures: {self.total:,}",
            f"  valid: {valid:,} ({percent(valid, self.total)})",
            f"  invalid: {len(self.invalid):,}",
        ]
        if self.orphans is not None:
            lines.append(f"  orphans, no longer in any list: {len(self.orphans):,}")
        if self.removed is not None:
            lines.append(f"  deleted: {self.removed:,}")
            if self.invalid:
                lines.append("Run download_images.py to download the invalid ones again")
        elif self.invalid or self.orphans:
            lines.append("Delete these with --fix; download_images.py then downloads the invalid ones again")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Write the report file; PipelineError if it can't be written."""
        orphans = {} if self.orphans is None else {"orphans": [path.name for path in self.orphans]}
        atomic_write_json(
            path,
            {
                "version": REPORT_VERSION,
                "timestamp": utc_timestamp(),
                "cache_directory": text_of(self.cache),
                "total_files": self.total,
                "valid_files": self.total - len(self.invalid),
                "invalid_files": len(self.invalid),
                "failures": [
                    {
                        "filename": invalid.path.name,
                        "reason": invalid.reason,
                        "size_bytes": invalid.stat.st_size if invalid.stat else 0,
                    }
                    for invalid in self.invalid
                ],
                **orphans,
            },
        )


def validate(cache: ImageCache) -> ValidationReport:
    """Check every picture in `cache`, in order of name; each invalid one is printed as it is found.

    Raises PipelineError if there is no such directory (exit 2) or it can't be read.
    """
    cache.require(ExitCode.NO_DIRECTORY)
    paths = sorted(cache.pictures())
    report = ValidationReport(cache.root)
    with (
        Progress("Validating", len(paths), "pictures", report.progress_note) as progress,
        closing(in_order(_look, paths, workers=WORKERS, ahead=AHEAD)) as looked_at,
    ):
        for path, look in looked_at:
            report.total += 1
            if (invalid := look.result()) is not None:
                report.invalid.append(invalid)
                say(f"invalid: {path.name}: {invalid.reason}")
            progress.advance()
    return report


def find_orphans(cache: ImageCache, report: ValidationReport) -> None:
    """Find pictures that no list in `cache` names, under any key, and print each.

    A re-scanned picture has a new address, so its old file is an orphan. Raises PipelineError if there is no list, or
    one is damaged: pictures that it fails to name would be lost.
    """
    lists = kept_lists(cache.root)
    if not lists:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "orphans can't be found without a card list",
            details=f"{cache.root} holds no card list",
            suggestion="run download_images.py first, or leave out --prune",
        )
    by_name = {path.name: path for path in cache.pictures() if cache.is_ours(path)}
    for card_list in lists:
        say(f"Looking for orphans: reading {card_list.name}")
        for url in all_addresses(card_list, expected_cards(card_list)):
            by_name.pop(cache.name_for(url), None)
    report.orphans = [by_name[name] for name in sorted(by_name)]
    for path in report.orphans:
        say(f"orphan: {path.name}")


def remove(report: ValidationReport) -> None:
    """Delete orphans and invalid pictures, except any replaced since: a download may have repaired it."""
    report.removed = 0
    orphans = set(report.orphans or ())
    for path in sorted(orphans):
        try:
            path.unlink(missing_ok=True)
            report.removed += 1
        except OSError as error:
            warn(f"{path.name} can't be deleted: {error.strerror or error}")
    for invalid in report.invalid:
        try:
            if not invalid.deletable:
                say(f"not deleted: {invalid.path.name} could not be read, so it may be whole")
            elif invalid.path in orphans:
                pass  # already deleted
            elif invalid.stat is not None and _same(invalid.stat, invalid.path.lstat()):
                invalid.path.unlink()
                report.removed += 1
            else:
                say(f"not deleted: {invalid.path.name} has changed since it was checked")
        except OSError as error:
            warn(f"{invalid.path.name} can't be deleted: {error.strerror or error}")


def _look(path: Path) -> Invalid | None:
    stat = None
    try:
        stat = path.lstat()
        check_file(path)
    except FileNotFoundError:
        return Invalid(path, "does not exist", stat)
    except UnreadableImage as error:
        return Invalid(path, str(error), stat, deletable=False)
    except (BrokenImage, OSError) as error:
        return Invalid(path, str(error), stat)
    return None


def _same(before: os.stat_result, now: os.stat_result) -> bool:
    return os.path.samestat(before, now) and (before.st_mtime_ns, before.st_size) == (now.st_mtime_ns, now.st_size)
