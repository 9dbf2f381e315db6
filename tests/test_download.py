"""download_images.py as users run it, against a server that misbehaves."""

import gzip
import json
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.cards.faces import Selection
from helpers.cards.image_cache import ImageCache
from helpers.download.report import DownloadReport, Failure, Outcome, Status, Wanted, failures_of, read_last
from tests.conftest import ROOT, run_script, serving
from tests.faulty_server import FaultyServer, Reply, faulty_server
from tests.kills import KILLED, run_until
from tests.pictures import BROKEN, HTML, encoded

COUNT = 8
LONG_HOST = f"http://{'x' * 70}.example/a.jpg"


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        offer(server, [card(server, i) for i in range(COUNT)])
        for i in range(COUNT):
            server.answer(f"/{i}.jpg", Reply(body=encoded(seed=i)))
        yield server


def card(server: FaultyServer, i: int) -> dict[str, Any]:
    return {"id": f"id{i}", "name": f"Card {i}", "image_uris": {"normal": f"{server.address}/{i}.jpg"}}


def offer(server: FaultyServer, cards: list[dict[str, Any]]) -> None:
    lines = b"".join(json.dumps(card).encode() + b"\n" for card in cards)
    url = server.answer("/list.jsonl.gz", Reply(body=gzip.compress(lines)))
    entry = {"type": "unique_artwork", "updated_at": "2026-11-01T00:00:00Z", "jsonl_download_uri": url}
    server.answer("/bulk-data", Reply(body=json.dumps({"data": [entry]}).encode()))


def download(
    server: FaultyServer, cache: Path, *arguments: object, max_retries: int = 0
) -> subprocess.CompletedProcess[str]:
    return run_script(
        "download_images.py",
        *("--cache", cache, "--api-url", server.address, "--max-retries", max_retries, *arguments),
    )


def report(cache: Path) -> dict[str, Any]:
    return dict(json.loads((cache / "download_report.json").read_text()))


def pictures(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ImageCache(cache).pictures()}


@pytest.mark.parametrize("workers", [1, 3, 32])
def test_every_picture_is_fetched_once_under_the_name_of_its_url(
    server: FaultyServer, tmp_path: Path, workers: int
) -> None:
    done = download(server, tmp_path / "new" / "cache", "--workers", workers)
    assert done.returncode == 0, done.stderr
    cache = ImageCache(tmp_path / "new" / "cache")
    for i in range(COUNT):
        assert cache.path_for(f"{server.address}/{i}.jpg").read_bytes() == encoded(seed=i)
    assert set(server.times_asked().values()) == {1}
    assert "fetched: 8" in done.stdout
    assert report(cache.root)["fetched"] == COUNT
    assert not list(cache.root.glob("*.part"))


def test_a_second_run_asks_for_nothing(server: FaultyServer, tmp_path: Path) -> None:
    download(server, tmp_path)
    before = list(server.asked)
    done = download(server, tmp_path)
    assert done.returncode == 0
    assert server.asked == before
    assert "already present: 8" in done.stdout


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_in_the_cache_is_fetched_again(server: FaultyServer, tmp_path: Path, how: str) -> None:
    download(server, tmp_path)
    ImageCache(tmp_path).path_for(f"{server.address}/3.jpg").write_bytes(BROKEN[how])
    server.asked.clear()
    assert download(server, tmp_path).returncode == 0
    assert server.asked == ["/3.jpg"]
    assert ImageCache(tmp_path).path_for(f"{server.address}/3.jpg").read_bytes() == encoded(seed=3)


def test_nothing_broken_gets_in_and_each_failure_is_in_the_report(server: FaultyServer, tmp_path: Path) -> None:
    for i, body in enumerate(BROKEN.values()):
        server.answer(f"/{i}.jpg", Reply(body=body))
    server.answer("/5.jpg", Reply(404))
    server.answer("/6.jpg", Reply(reset=True))
    done = download(server, tmp_path)
    assert done.returncode == 0
    assert list(pictures(tmp_path).values()) == [encoded(seed=7)]
    failures = {failure["url"]: failure for failure in report(tmp_path)["failures"]}
    assert set(failures) == {f"{server.address}/{i}.jpg" for i in range(7)}
    assert failures[f"{server.address}/5.jpg"]["status"] == "missing"
    assert failures[f"{server.address}/0.jpg"]["card"] == "Card 0"
    assert "HTML" in failures[f"{server.address}/0.jpg"]["reason"]
    assert all(failure["reason"] for failure in failures.values())
    assert "missing on the server: 1" in done.stdout
    assert "failed: 6" in done.stdout


@pytest.mark.parametrize("between", [None, ["--limit", 2]])
def test_damage_inside_a_file_is_mended_too(server: FaultyServer, tmp_path: Path, between: list[object] | None) -> None:
    server.answer("/3.jpg", Reply(body=encoded("PNG", seed=3)))
    download(server, tmp_path)
    path = ImageCache(tmp_path).path_for(f"{server.address}/3.jpg")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    if between:
        download(server, tmp_path, *between)  # has not looked at that file, so its end says nothing
    server.asked.clear()
    assert download(server, tmp_path).returncode == 0
    assert server.asked == ["/3.jpg"]
    assert path.read_bytes() == encoded("PNG", seed=3)


def test_a_run_that_is_sent_away_leaves_its_report(server: FaultyServer, tmp_path: Path) -> None:
    server.answer("/5.jpg", Reply(429, headers={"Retry-After": "9999"}))
    done = download(server, tmp_path, "--workers", 1)
    assert done.returncode == 1
    assert "ERROR: Network Error: the server does not want more requests" in done.stderr
    assert {"complete": False, "fetched": 5}.items() <= report(tmp_path).items()


def test_a_server_that_sends_us_away_from_an_old_list_is_asked_for_nothing_more(
    server: FaultyServer, tmp_path: Path
) -> None:
    download(server, tmp_path, "--limit", 2)
    description = tmp_path / "unique_artwork.list.json"
    description.write_text(description.read_text().replace('"checked_at": "20', '"checked_at": "19'))
    server.answer("/bulk-data", Reply(429, headers={"Retry-After": "9999"}))
    server.asked.clear()
    done = download(server, tmp_path)
    assert (done.returncode, "does not want more requests" in done.stderr) == (1, True)
    assert server.asked == ["/bulk-data"]


def test_a_list_that_comes_cut_off_is_fetched_again(server: FaultyServer, tmp_path: Path) -> None:
    (whole,) = server.plan["/list.jsonl.gz"]
    server.answer("/list.jsonl.gz", Reply(body=whole.body[:-9]), whole)
    assert download(server, tmp_path, max_retries=1).returncode == 0
    assert len(pictures(tmp_path)) == COUNT


def test_addresses_that_are_none_are_failures_like_others(server: FaultyServer, tmp_path: Path) -> None:
    offer(server, [card(server, i) for i in range(5)] + [{"id": "x", "name": "X", "image_uris": {"normal": LONG_HOST}}])
    for i, location in enumerate(["http://[::1/x.jpg", LONG_HOST, "file:///etc/passwd"]):
        server.answer(f"/{i}.jpg", Reply(302, headers={"Location": location}))
    done = download(server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(report(tmp_path)["failures"]) == 4
    assert len(pictures(tmp_path)) == 2


def test_a_server_that_drops_the_first_connection_is_tried_again(server: FaultyServer, tmp_path: Path) -> None:
    (bulk,) = server.plan["/bulk-data"]
    server.answer("/bulk-data", Reply(reset=True), bulk)
    assert download(server, tmp_path, max_retries=1).returncode == 0


def test_failures_that_pass_are_mended_in_the_same_run(server: FaultyServer, tmp_path: Path) -> None:
    for i, fault in enumerate([Reply(503), Reply(reset=True), Reply(body=HTML), Reply(body=b"x", claim=9)]):
        server.answer(f"/{i}.jpg", fault, Reply(body=encoded(seed=i)))
    done = download(server, tmp_path, max_retries=1)
    assert done.returncode == 0
    assert len(pictures(tmp_path)) == COUNT
    assert report(tmp_path)["failures"] == []


def test_failures_that_stay_are_mended_by_the_next_run(server: FaultyServer, tmp_path: Path) -> None:
    server.answer("/2.jpg", Reply(503))
    download(server, tmp_path)
    server.answer("/2.jpg", Reply(body=encoded(seed=2)))
    server.asked.clear()
    assert download(server, tmp_path).returncode == 0
    assert server.asked == ["/2.jpg"]


@pytest.mark.parametrize(("share", "code"), [(25, 0), (24.9, 2), (0, 2), (100, 0)])
def test_more_failures_than_allowed_are_exit_code_2(
    server: FaultyServer, tmp_path: Path, share: float, code: int
) -> None:
    for i in range(2):
        server.answer(f"/{i}.jpg", Reply(404))
    done = download(server, tmp_path, "--max-failures", share)
    assert done.returncode == code
    assert ("ERROR: Network Error: more than" in done.stderr) == (code == 2)
    assert "Faces: 8" in done.stdout


def test_no_picture_at_all_is_exit_code_2(server: FaultyServer, tmp_path: Path) -> None:
    for i in range(COUNT):
        server.answer(f"/{i}.jpg", Reply(404))
    done = download(server, tmp_path)
    assert done.returncode == 2
    assert "ERROR: Network Error: none of the pictures could be downloaded" in done.stderr
    assert "download_report.json" in done.stderr
    assert len(report(tmp_path)["failures"]) == COUNT


def test_limit_takes_the_first_and_0_takes_none_and_says_so(server: FaultyServer, tmp_path: Path) -> None:
    assert download(server, tmp_path, "--limit", 3).returncode == 0
    assert len(pictures(tmp_path)) == 3
    assert "/3.jpg" not in server.asked
    done = download(server, tmp_path / "none", "--limit", 0)
    assert done.returncode == 0
    assert "--limit 0" in done.stderr
    assert "Success rate: N/A" in done.stdout
    assert not pictures(tmp_path / "none")


@pytest.mark.parametrize(
    ("path", "reply", "words"),
    [
        ("/bulk-data", Reply(404), "could not be downloaded"),
        ("/bulk-data", Reply(body=HTML), "did not answer with"),
        ("/bulk-data", Reply(body=b'{"data": []}'), "offers no unique_artwork"),
        ("/bulk-data", Reply(body=b'{"data": [{"type": "unique_artwork"}]}'), "offers no unique_artwork"),
        ("/list.jsonl.gz", Reply(503), "could not be downloaded"),
        ("/list.jsonl.gz", Reply(body=HTML), "could not be downloaded"),
        ("/list.jsonl.gz", Reply(body=HTML), "damaged"),
        ("/list.jsonl.gz", Reply(body=gzip.compress(b"[]")), "holds no cards"),
    ],
)
def test_a_list_that_can_not_be_had_is_exit_code_1(
    server: FaultyServer, tmp_path: Path, path: str, reply: Reply, words: str
) -> None:
    server.answer(path, reply)
    done = download(server, tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "Suggestion: " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_server_that_is_not_there_is_exit_code_1_with_what_to_do(tmp_path: Path) -> None:
    done = run_script("download_images.py", "--cache", tmp_path, "--api-url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "ERROR: Network Error: http://127.0.0.1:9 can't be reached" in done.stderr
    assert "make demo" in done.stderr


def test_offline_counts_what_is_there_and_asks_nobody(server: FaultyServer, tmp_path: Path) -> None:
    download(server, tmp_path, "--limit", 5)
    server.asked.clear()
    done = download(server, tmp_path, "--offline")
    assert done.returncode == 0
    assert "already present: 5" in done.stdout
    assert "failed: 3" in done.stdout
    assert server.asked == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_keeps_what_it_has_and_goes_on_later(
    server: FaultyServer, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    for i in range(4):
        server.answer(f"/{i}.jpg", Reply(hang=True))
    words = [sys.executable, str(ROOT / "download_images.py"), "--cache", str(tmp_path), "--api-url", server.address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        while len(pictures(tmp_path)) < COUNT - 4:
            assert run.poll() is None
        run.send_signal(sent)
        _, stderr = run.communicate(timeout=30)  # far less than the timeout of a server that hangs
    assert run.returncode == code
    assert "Traceback" not in stderr
    assert "nothing is half-written" in stderr
    assert not list(tmp_path.glob("*.part"))
    server.answer("/0.jpg", Reply(404))
    for i in range(1, 4):
        server.answer(f"/{i}.jpg", Reply(body=encoded(seed=i)))
    server.asked.clear()
    assert download(server, tmp_path).returncode == 0
    assert len(pictures(tmp_path)) == COUNT - 1
    assert sorted(server.asked) == ["/0.jpg", "/1.jpg", "/2.jpg", "/3.jpg"]


def test_a_directory_in_a_pictures_place_is_one_failure(server: FaultyServer, tmp_path: Path) -> None:
    ImageCache(tmp_path).path_for(f"{server.address}/3.jpg").mkdir()
    assert download(server, tmp_path).returncode == 0
    (failure,) = report(tmp_path)["failures"]
    assert failure["card"] == "Card 3"
    assert "a directory of that name" in failure["reason"]


def test_a_cache_that_can_not_be_made_is_a_known_failure(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = download(server, tmp_path / "file")
    assert done.returncode == 1
    assert "ERROR: Configuration Error: the --cache directory can't be used" in done.stderr


def test_two_downloads_at_once_on_one_cache_lose_and_tear_nothing(many: Path, tmp_path: Path) -> None:
    faults = "503=5,reset=5,truncated=5,html=5,slow=4,429=2"
    with serving(many, "--faults", faults, "--log", tmp_path / "log") as address:
        words = [sys.executable, str(ROOT / "download_images.py"), "--cache", str(tmp_path / "cache")]
        words += ["--api-url", address, "--workers", "32"]
        runs = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
        summaries = [run.communicate(timeout=120)[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0]
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert {line["fault"] for line in lines} >= {None, *(fault.partition("=")[0] for fault in faults.split(","))}
        assert all("Success rate: 100.0 %" in summary for summary in summaries)
        names = {ImageCache(tmp_path / "cache").path_for(address + line["path"]).name: line["path"] for line in lines
                 if line["path"].startswith("/normal/")}  # fmt: skip
    found = pictures(tmp_path / "cache")
    assert len(found) == 300
    for name, data in found.items():
        number = names[name].partition("/id-")[2][:3]
        assert data == (many.parent / f"{number}.jpg").read_bytes()
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_download_beside_one_that_is_killed_loses_and_tears_nothing(many: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with serving(many, "--faults", "slow=20", "--fault-times", 0) as address:
        arguments = ("download_images.py", "--cache", cache, "--api-url", address, "--workers", 32)
        words = [sys.executable, str(ROOT / arguments[0]), *map(str, arguments[1:])]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
            killed = run_until(lambda: len(list(cache.glob("*.jpg"))) > 50, *arguments)
            assert other.wait(timeout=120) == 0
        assert killed.returncode == KILLED
        assert len(pictures(cache)) == 300
        assert run_script("scripts/validate_cache.py", "--cache", cache).returncode == 0
        assert "already present: 300" in run_script(*arguments).stdout
    assert not list(cache.glob("*.part"))


# ------------------------------------------------------------------------------------------------ trying again, filters


def test_retry_failed_asks_for_nothing_else_and_keeps_the_whole_reports_counts(
    server: FaultyServer, tmp_path: Path
) -> None:
    for i in (2, 5):
        server.answer(f"/{i}.jpg", Reply(503))
    server.answer("/6.jpg", Reply(404))
    download(server, tmp_path)
    before = report(tmp_path)
    server.answer("/2.jpg", Reply(body=encoded(seed=2)))
    server.asked.clear()
    done = download(server, tmp_path, "--retry-failed")
    assert done.returncode == 0, done.stderr
    assert sorted(server.asked) == ["/2.jpg", "/5.jpg", "/6.jpg"]  # the list is not read, nor asked for
    after = report(tmp_path)
    counts = ("already_present", "fetched", "failed", "missing", "total_faces")
    assert [before[name] for name in counts] == [0, 5, 2, 1, 8]
    assert [after[name] for name in counts] == [5, 1, 1, 1, 8]
    assert {failure["url"][-6:] for failure in after["failures"]} == {"/5.jpg", "/6.jpg"}
    assert [after[name] for name in ("complete", "kind", "limit", "checked")] == [
        *(True, "unique_artwork", None, before["checked"])
    ]


def test_a_retry_that_is_broken_off_forgets_no_failure(server: FaultyServer, tmp_path: Path) -> None:
    for i in range(5):
        server.answer(f"/{i}.jpg", Reply(503))
    download(server, tmp_path, "--workers", 1)  # so that the report lists them in this order
    server.answer("/0.jpg", Reply(body=encoded(seed=0)))
    assert download(server, tmp_path, "--retry-failed", "--limit", 1).returncode == 0
    assert len(report(tmp_path)["failures"]) == 4
    server.answer("/1.jpg", Reply(429, headers={"Retry-After": "9999"}))
    done = download(server, tmp_path, "--retry-failed", "--workers", 1)
    assert (done.returncode, "does not want more requests" in done.stderr) == (1, True)
    assert {failure["url"][-6:] for failure in report(tmp_path)["failures"]} == {f"/{i}.jpg" for i in range(1, 5)}


def test_retry_failed_without_a_report_or_without_failures_says_so(server: FaultyServer, tmp_path: Path) -> None:
    done = download(server, tmp_path, "--retry-failed")
    assert (done.returncode, "no report of an earlier download" in done.stderr) == (1, True)
    download(server, tmp_path)
    whole = (tmp_path / "download_report.json").read_bytes()
    server.asked.clear()
    done = download(server, tmp_path, "--retry-failed")
    assert (done.returncode, "nothing to retry" in done.stderr, server.asked) == (0, True, [])
    assert (tmp_path / "download_report.json").read_bytes() == whole


REWRITTEN: dict[str, Callable[[Any], str]] = {  # as jq and editors write it
    "indented by four": lambda value: json.dumps(value, indent=4),
    "one line": json.dumps,
    "keys sorted": lambda value: json.dumps(value, sort_keys=True),
    "byte order mark": lambda value: "\ufeff" + json.dumps(value, indent=2),
}


@pytest.mark.parametrize("how", REWRITTEN)
def test_a_report_is_read_whatever_its_white_space(tmp_path: Path, how: str) -> None:
    report = DownloadReport(tmp_path)
    wanted = [Wanted(f"https://cards.example/{i}.jpg", "Lim-Dûl", f"id{i}") for i in range(2)]
    for picture, status in zip(wanted, (Status.FAILED, Status.MISSING), strict=True):
        report.add(Outcome(picture, status, reason="HTTP 503"))
    report.write(Selection("all_cards"), "https://x", complete=True, checked=None)
    before, path = read_last(tmp_path), tmp_path / "download_report.json"
    path.write_text(REWRITTEN[how](json.loads(path.read_text())))
    assert before is not None
    assert read_last(tmp_path) == before
    assert [failure.outcome.wanted for failure in failures_of(tmp_path)] == wanted


def test_a_report_of_another_version_is_carried_over(tmp_path: Path) -> None:
    failure = Failure("https://cards.example/1.jpg", "A", "id", "a status of tomorrow", "HTTP 999")
    report = DownloadReport(tmp_path)
    report.carry_over([failure], ImageCache(tmp_path))
    assert (report.counts[Status.FAILED], report.failures) == (1, 1)


@pytest.mark.parametrize("other", ["--offline", "--refresh"])
def test_retry_failed_needs_the_network_and_no_list(server: FaultyServer, tmp_path: Path, other: str) -> None:
    done = download(server, tmp_path, "--retry-failed", other)
    assert (done.returncode, f"--retry-failed and {other} are mutually exclusive" in done.stderr) == (1, True)


def test_filters_choose_among_the_cards_and_are_recorded(server: FaultyServer, tmp_path: Path) -> None:
    cards = [
        card(server, i) | {"lang": "de" if i % 2 else "en", "set": "lea", "games": ["paper"]} for i in range(COUNT)
    ]
    offer(server, cards)
    done = download(server, tmp_path, "--lang", "DE,fr", "--set", "lea", "--games", "paper,mtgo")
    assert done.returncode == 0, done.stderr
    assert "4 cards that don't match the filters" in done.stderr
    assert sorted(path for path in server.asked if path.endswith("jpg")) == ["/1.jpg", "/3.jpg", "/5.jpg", "/7.jpg"]
    assert report(tmp_path)["filters"] == {"lang": ["de", "fr"], "set": ["lea"], "games": ["mtgo", "paper"]}


def test_filters_that_leave_nothing_are_an_error_with_what_was_asked_for(server: FaultyServer, tmp_path: Path) -> None:
    done = download(server, tmp_path, "--set", "nosuchset", "--exclude-digital")
    assert done.returncode == 1
    assert "ERROR: Configuration Error: no card of the list passes the filters" in done.stderr
    assert "received --set nosuchset --exclude-digital" in done.stderr


# ------------------------------------------------------------------------------------------------ what is there already


def test_a_run_with_filters_or_a_limit_does_not_forget_what_was_checked(server: FaultyServer, tmp_path: Path) -> None:
    download(server, tmp_path)
    checked = report(tmp_path)["checked"]
    server.answer("/0.jpg", Reply(429, headers={"Retry-After": "9999"}))
    for i in (0, 5):
        (tmp_path / ImageCache.name_for(f"{server.address}/{i}.jpg")).unlink()
    assert download(server, tmp_path, "--workers", 1).returncode == 1  # broken off: it has not looked at all of them
    assert report(tmp_path)["checked"] == checked


def test_a_picture_that_was_scanned_anew_is_fetched_and_the_old_one_becomes_an_orphan(
    server: FaultyServer, tmp_path: Path
) -> None:
    def at(version: int, i: int) -> dict[str, Any]:
        return {"id": f"id{i}", "name": f"Card {i}", "image_uris": {"normal": f"{server.address}/{i}.jpg?{version}"}}

    for i in range(COUNT):
        server.answer(f"/{i}.jpg?1", Reply(body=encoded(seed=i)))
    offer(server, [at(1, i) for i in range(COUNT)])
    download(server, tmp_path)
    server.answer("/3.jpg?2", Reply(body=encoded(seed=33)))
    offer(server, [at(2 if i == 3 else 1, i) for i in range(COUNT)])
    server.asked.clear()
    assert download(server, tmp_path, "--refresh").returncode == 0
    assert [path for path in server.asked if ".jpg" in path] == ["/3.jpg?2"]
    old, new = (ImageCache.name_for(f"{server.address}/3.jpg?{version}") for version in (1, 2))
    assert {old, new} <= set(pictures(tmp_path))

    prune = ("scripts/validate_cache.py", "--cache", tmp_path, "--prune")
    done = run_script(*prune, "--report", tmp_path.parent / "report.json")
    assert (done.returncode, f"orphan: {old}" in done.stderr, (tmp_path / old).exists()) == (0, True, True)
    assert "orphans, no longer in any list: 1" in done.stdout
    assert json.loads((tmp_path.parent / "report.json").read_text())["orphans"] == [old]
    assert run_script(*prune, "--fix").returncode == 0
    assert len(pictures(tmp_path)) == COUNT
    assert old not in pictures(tmp_path)
    assert "orphans, no longer in any list: 0" in run_script(*prune).stdout


@pytest.mark.parametrize("damage", [b"", b"\n", b'{"id": "1", "name": "1"}\n'])
def test_a_list_that_is_not_whole_any_more_prunes_nothing(server: FaultyServer, tmp_path: Path, damage: bytes) -> None:
    download(server, tmp_path)
    (card_list,) = tmp_path.glob("unique_artwork-*.gz")
    card_list.write_bytes(damage)
    done = run_script("scripts/validate_cache.py", "--cache", tmp_path, "--prune", "--fix")
    assert (done.returncode, "the card list is incomplete" in done.stderr) == (1, True)
    assert len(pictures(tmp_path)) == COUNT


def test_a_report_that_has_no_place_is_named_at_the_start(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "download_report.json").mkdir()
    done = download(server, tmp_path)
    assert (done.returncode, "the report can't be written" in done.stderr, server.asked) == (1, True, [])


def test_two_downloads_fetch_the_list_once(server: FaultyServer, tmp_path: Path) -> None:
    (good,) = server.plan["/list.jsonl.gz"]
    server.answer("/list.jsonl.gz", Reply(body=good.body, drops=40))
    words = [sys.executable, str(ROOT / "download_images.py"), "--cache", str(tmp_path), "--api-url", server.address]
    runs = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=60)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert server.times_asked()["/list.jsonl.gz"] == 1
    assert sum("waiting for it" in text for text in said) == 1
    assert len(pictures(tmp_path)) == COUNT


def test_half_a_million_failures_stay_on_the_disk(tmp_path: Path) -> None:
    """Held as objects they would be hundreds of MB."""
    report = DownloadReport(tmp_path)
    tracemalloc.start()
    wanted = Wanted("https://cards.example/normal/front/0/0/" + "0" * 36 + ".jpg?1", "A card's name", "0" * 36)
    for _ in range(100_000):
        report.add(Outcome(wanted, Status.FAILED, reason="not in the cache, and --offline forbids to fetch it"))
    report.write(Selection("all_cards"), "https://x", complete=True, checked=None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert read_last(tmp_path) is not None
    assert {failure.outcome.wanted for failure in failures_of(tmp_path)} == {wanted}
    assert json.loads((tmp_path / "download_report.json").read_text())["failed"] == 100_000


def test_a_broken_file_that_could_not_be_mended_is_not_forgotten(server: FaultyServer, tmp_path: Path) -> None:
    server.answer("/3.jpg", Reply(body=encoded("PNG", seed=3)))
    download(server, tmp_path)
    path = ImageCache(tmp_path).path_for(f"{server.address}/3.jpg")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    server.answer("/3.jpg", Reply(503))
    assert len(report_after(download(server, tmp_path), tmp_path)["failures"]) == 1
    assert len(report_after(download(server, tmp_path, "--offline"), tmp_path)["failures"]) == 1
    server.answer("/3.jpg", Reply(body=encoded("PNG", seed=3)))
    assert report_after(download(server, tmp_path, "--retry-failed"), tmp_path)["failures"] == []
    assert path.read_bytes() == encoded("PNG", seed=3)


def report_after(done: subprocess.CompletedProcess[str], cache: Path) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return report(cache)


def test_pictures_that_are_refused_for_ever_do_not_block_the_others(server: FaultyServer, tmp_path: Path) -> None:
    offer(server, [card(server, i) for i in range(30)])
    for i in range(30):
        server.answer(f"/{i}.jpg", Reply(403) if i % 5 == 0 else Reply(body=encoded(seed=i)))
    for i in (7, 28):
        server.answer(f"/{i}.jpg", Reply(503))
    assert download(server, tmp_path, "--workers", 2).returncode == 0
    assert len(pictures(tmp_path)) == 22
    for i in (7, 28):
        server.answer(f"/{i}.jpg", Reply(body=encoded(seed=i)))
    assert download(server, tmp_path, "--retry-failed").returncode == 0
    assert len(pictures(tmp_path)) == 24
    assert download(server, tmp_path).returncode == 0


# ------------------------------------------------------------------------------------- missing, or are we turned away?

PAGE = Reply(body=b"<!DOCTYPE html><html><body>Sign in to the hotel's network</body></html>")


def offer_60(server: FaultyServer, odd: Reply, is_odd: Callable[[int], bool]) -> None:
    offer(server, [card(server, i) for i in range(60)])
    for i in range(60):
        server.answer(f"/{i}.jpg", odd if is_odd(i) else Reply(body=encoded(seed=i)))


def test_the_more_pictures_are_missing_the_seldomer_others_are_asked_for_to_tell(
    server: FaultyServer, tmp_path: Path
) -> None:
    offer_60(server, Reply(403), lambda i: 5 <= i < 55)
    assert download(server, tmp_path, "--workers", 1).returncode == 0
    assert len(pictures(tmp_path)) == 10
    again = sum(times - 1 for times in server.times_asked().values())
    assert again <= 5  # after 5, after 10 more and after 20 more; not after every 5


@pytest.mark.parametrize(
    ("odd", "is_odd"),
    [
        (Reply(403), lambda i: i < 30),  # nothing has come yet that could be asked for again
        (Reply(403), lambda i: i >= 30),
        (Reply(403), lambda i: i % 2),
        (PAGE, lambda i: i < 30),
    ],
    ids=["first half", "last half", "every second", "first half a page"],
)
def test_pictures_that_are_not_there_do_not_end_the_run(
    server: FaultyServer, tmp_path: Path, odd: Reply, is_odd: Callable[[int], bool]
) -> None:
    offer_60(server, odd, is_odd)
    assert download(server, tmp_path, "--workers", 4).returncode == 0
    assert len(pictures(tmp_path)) == 30
    (status,) = {failure["status"] for failure in report(tmp_path)["failures"]}
    assert status == ("missing" if odd.status == 403 else "failed")
    again = download(server, tmp_path, "--retry-failed", "--workers", 4)  # a picture that is in the cache still comes
    assert (again.returncode, len(report(tmp_path)["failures"])) == (0, 30)


@pytest.mark.parametrize(
    ("odd", "words", "after"),
    [
        (Reply(403), "the server refuses our requests", 0),
        (Reply(403), "the server refuses our requests", 20),
        (PAGE, "captive portal", 0),
        (PAGE, "captive portal", 20),
        (Reply(511), "sign in to the network", 0),
    ],
)
def test_a_server_that_turns_us_away_is_asked_for_little_more(
    server: FaultyServer, tmp_path: Path, odd: Reply, words: str, after: int
) -> None:
    offer_60(server, odd, lambda _: False)
    if after:
        download(server, tmp_path, "--limit", after)
    offer_60(server, odd, lambda _: True)
    server.asked.clear()
    done = download(server, tmp_path, "--workers", 4)
    assert (done.returncode, words in done.stderr) == (1 if after else 2, True), done.stderr
    assert len([path for path in server.asked if path.endswith(".jpg")]) < 25
    assert len(pictures(tmp_path)) == after
    assert 5 <= len(report(tmp_path)["failures"]) < 20


def test_pictures_refused_by_a_server_that_turns_us_away_in_mid_run_are_not_missing(
    server: FaultyServer, tmp_path: Path
) -> None:
    offer_60(server, Reply(403), lambda i: i >= 30)
    for i in range(30):
        server.answer(f"/{i}.jpg", *server.plan[f"/{i}.jpg"], Reply(403))  # whatever came does not come again
    done = download(server, tmp_path, "--workers", 1)
    assert (done.returncode, "which came before" in done.stderr) == (1, True)
    last = [failure["status"] for failure in report(tmp_path)["failures"]][-5:]
    assert (last, len(pictures(tmp_path))) == (["failed"] * 5, 30)


def test_a_page_instead_of_every_picture_that_goes_away_is_waited_out(server: FaultyServer, tmp_path: Path) -> None:
    for i in range(COUNT):
        server.answer(f"/{i}.jpg", PAGE, Reply(body=encoded(seed=i)))
    done = download(server, tmp_path, max_retries=1)
    assert done.returncode == 0, done.stderr
    assert len(pictures(tmp_path)) == COUNT


def test_a_picture_that_asks_for_an_hour_is_one_failure(server: FaultyServer, tmp_path: Path) -> None:
    server.answer("/3.jpg", Reply(503, headers={"Retry-After": "3600"}))
    assert download(server, tmp_path).returncode == 0
    (failure,) = report(tmp_path)["failures"]
    assert (failure["card"], len(pictures(tmp_path))) == ("Card 3", COUNT - 1)


def test_a_run_that_is_broken_off_forgets_no_failure_of_before(server: FaultyServer, tmp_path: Path) -> None:
    server.answer("/7.jpg", Reply(503))
    download(server, tmp_path)
    (tmp_path / ImageCache.name_for(f"{server.address}/1.jpg")).unlink()
    server.answer("/1.jpg", Reply(429, headers={"Retry-After": "9999"}))
    done = download(server, tmp_path, "--workers", 1)
    assert done.returncode == 1
    assert "The run was cut short; not checked: " in done.stdout
    assert {failure["card"] for failure in report(tmp_path)["failures"]} == {"Card 1", "Card 7"}
    server.answer("/1.jpg", Reply(body=encoded(seed=1)))
    done = download(server, tmp_path, "--retry-failed")
    assert (done.returncode, "the last download was cut short" in done.stderr) == (0, True)
    assert [failure["card"] for failure in report(tmp_path)["failures"]] == ["Card 7"]


def test_a_download_that_waited_for_a_lock_that_was_removed_takes_the_new_one(
    server: FaultyServer, tmp_path: Path
) -> None:
    words = [sys.executable, str(ROOT / "download_images.py"), "--cache", str(tmp_path), "--api-url", server.address]
    with ImageCache(tmp_path).alone():
        run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(1.5)
    assert run.communicate(timeout=60)[1].count("Traceback") == 0
    assert (run.returncode, len(pictures(tmp_path))) == (0, COUNT)
    assert (tmp_path / ".lock").exists()


def test_a_retry_says_that_the_last_download_was_about_something_else(server: FaultyServer, tmp_path: Path) -> None:
    server.answer("/3.jpg", Reply(404))
    download(server, tmp_path)
    done = download(server, tmp_path, "--retry-failed", "--kind", "all_cards")
    assert "the last download had other flags" in done.stderr
