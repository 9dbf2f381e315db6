"""What this machine allows: disk space, cores, memory, open files. Checked before a night's work, not halfway."""

import math
import os
import resource
import shutil
from pathlib import Path

from helpers.errors import Category, DiskFull
from helpers.talk import human_bytes, warn

OUR_OWN_FILES = 28  # Python's, the log, the list, the report, pictures being written
FILES_PER_WORKER = 2  # a connection, a DNS lookup
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # our own, as seen inside a container
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # likewise


def require_room(folder: Path, count: int, mean_bytes: float) -> None:
    """Raise DiskFull (Configuration Error) if `count` files of `mean_bytes` do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if count * mean_bytes <= free:
        return
    needed = f"{human_bytes(count * mean_bytes)} needed for {count:,} pictures of {human_bytes(mean_bytes)} on average"
    raise DiskFull.of(
        Category.CONFIGURATION,
        "the disk has no room for the pictures",
        details=f"{needed}, {human_bytes(free)} free in {folder}",
        suggestion="make room and run the same command again (what was fetched is kept), choose a smaller --image-key, "
        "fewer cards (--set, --lang, --limit), or another --cache",
    )


def usable_cores() -> int:
    """How many cores this process may use, by affinity and CPU quota where the system reports them; else all."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, round(min(there, _cores_worth_of_time(CPU_QUOTA))))


def _cores_worth_of_time(path: Path) -> float:
    """A container's CPU quota in cores (docker run --cpus), from cgroup v2's `cpu.max`: "quota period"."""
    try:
        quota, period = path.read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def usable_memory() -> int:
    """How many bytes of memory this process may use: the machine's, or its container's (docker run --memory)."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(there, int(MEMORY_LIMIT.read_text()))
    except (OSError, ValueError):  # "max"
        return there


def open_files_for(workers: int) -> int:
    """How many files `workers` downloads have open, ours included."""
    return OUR_OWN_FILES + FILES_PER_WORKER * workers


def affordable_workers(workers: int) -> int:
    """`workers`, or as many as the limit on open files allows; the limit is raised as far as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = open_files_for(workers)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return workers
    allowed = wanted if hard == unlimited else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # macOS enforces a lower limit than the hard one it reports
        allowed = soft
    affordable = max(1, min(workers, (allowed - OUR_OWN_FILES) // FILES_PER_WORKER))
    if affordable < workers:
        warn(f"only {allowed} files may be open at a time: {affordable} workers instead of {workers} (see ulimit -n)")
    return affordable
