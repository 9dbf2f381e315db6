"""What every script does with its arguments, seen from outside."""

import ast
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_script
from tests.kills import run_signalled_at_import

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "scripts")
    for path in folder.glob("*.py")
    if not path.name.startswith("_")
)
NEEDED = {  # to come as far as the flags
    "query_index.py": ["a.jpg"],
    "scripts/validate_cache.py": ["--cache", "."],
    "scripts/clear_cache.py": ["--cache", "."],
}
HEAVY = {"torch", "open_clip", "faiss", "torchvision", "timm"}


def blocks(stderr: str) -> list[str]:
    """The first line of each error block; fails where there is anything else."""
    lines = stderr.splitlines()
    assert len(lines) % 3 == 0, stderr
    assert all(line.startswith("  Details: ") for line in lines[1::3]), stderr
    assert all(line.startswith("  Suggestion: ") for line in lines[2::3]), stderr
    return lines[::3]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_teaches_without_importing_what_takes_seconds(script: str) -> None:
    done = run_script(script, "--help", env={"PYTHONPROFILEIMPORTTIME": "1", "PATH": ""})
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & HEAVY
    assert "Reads:" in done.stdout
    assert "Writes:" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_version_is_told(script: str) -> None:
    done = run_script(script, "--version")
    assert (done.returncode, bool(re.search(r"\d+\.\d+\.\d+$", done.stdout.strip()))) == (0, True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_flag_is_a_bad_argument(script: str) -> None:
    done = run_script(script, "--wrokers", "3", *NEEDED.get(script, []))
    assert done.returncode == 1
    assert blocks(done.stderr) == ["ERROR: Invalid Arguments: unknown argument --wrokers"]
    assert done.stdout == ""


SHARED = {
    "--kind": ["cards", ""],
    "--cache": [""],
    "--limit": ["-1", "1.5", "many", "nan", "9" * 30],
    "--image-key": ["tiny"],
    "--api-url": ["scryfall", "ftp://x", "http://", "http://x:port", "http://x/\udcff", "http://x/a b", "http://a:b@x"],
    "--lang": ["", "en,", "e n", "../x"],
    "--set": [""],
    "--layout": ["no-such"],
    "--games": ["papyrus", "paper,chess"],
    "--user-agent": ["", "line\nbreak", " x", "Ünicode"],
}
DOWNLOAD = {
    "--workers": ["0", "129", "x"],
    "--timeout-connect": ["0.5", "nan", "inf", "-inf", "1e300"],
    "--timeout-read": ["4", "x"],
    "--max-retries": ["-1"],
    "--max-failures": ["-1", "101"],
}
BUILD = {
    "--pictures": [""],
    "--table": [""],
    "--out": ["", "o\udcff"],
    "--batch": ["0", "-3"],
    "--loaders": ["0", "257"],
    "--precision": ["int8", "FP16"],
    "--size": ["63", "4097"],
    "--fit": ["stretch"],
    "--hnsw-m": ["3", "129"],
    "--hnsw-ef-construction": ["0", "2001", "31"],
    "--whiten-dim": ["7", "4097"],
    "--whiten-ridge": ["0", "1001"],
    "--checkpoint-frequency": ["99", "1", "-1", "x"],
    "--model": [" ", "local-dir:m\udcff"],
    "--pretrained": [""],
    "--device": ["tpu"],
}
BROWSER = {
    "--encoder": ["fp8", "fp16,fp15"],
    "--fields": ["nme", ""],
    "--compress": ["zip"],
    "--rows-per-file": ["99", "x"],
}
BAD_VALUES = {
    "download_images.py": SHARED | DOWNLOAD,
    "build_embeddings.py": SHARED | BUILD,
    "build_mtg_faiss.py": {flag: values[:1] for flag, values in (SHARED | DOWNLOAD | BUILD | BROWSER).items()},
    "export_for_browser.py": {"--input-dir": [""], "--output-dir": [""], "--cache": [""]} | BROWSER,
    "query_index.py": {
        "--detect": ["on"],
        "--text": [" ", "red:101", "\udcff", " :1"],
        "--name": [""],
        "--index": [""],
        "--k": ["0", "x"],
        "--where": ["set", "colour=W", "=", ""],
        "--min-score": ["2", "-4.1", "nan", "x"],
        "--ef-search": ["0"],
        "--search": ["flat"],
        "--read": ["sometimes"],
        "--verify": ["on"],
        "--sure-above": ["-1", "9"],
        "--device": ["gpu"],
        "--html": [""],
        "--cache": [""],
    },
    "scripts/export_table.py": {"--index": [""], "--format": ["csv", ""], "--rows": ["centred"], "--out": [""]},
    "scripts/validate_cache.py": {"--cache": [""], "--report": [""]},
    "scripts/serve_web.py": {"--index": [""], "--cache": [""], "--host": [""], "--port": ["65536", "eighty"]},
    "scripts/vendor_web.py": {"--out": [""]},
    "scripts/doctor.py": {
        "--kind": ["cards", ""],
        "--cache": [""],
        "--out": [""],
        "--port": ["0", "65536", "eighty"],
        "--api-url": ["scryfall", "ftp://x"],
    },
    "scripts/standin_scryfall.py": {
        "--table": [""],
        "--port": ["65536", "-1"],
        "--faults": [
            "x",
            "503=",
            "503=x",
            "503=101",
            "503=60,404=60",
            "429@0",
            "429@x",
            "429@-1",
            "list:teapot",
            "503=nan",
        ],
        "--fault-times": ["-1"],
        "--retry-after": ["-1"],
        "--seed": ["x"],
        "--log": [""],
    },
    "scripts/draw_cards.py": {"--out": [""], "--count": ["0", "6001"], "--seed": ["-1"], "--reprints": ["-1", "6001"]},
    "scripts/take_photographs.py": {
        "--table": [""],
        "--out": [""],
        "--count": ["0"],
        "--seed": ["-1"],
        "--scale": ["0.2", "5"],
        "--rotation": ["-1", "181"],
        "--tilt": ["61"],
        "--fill": ["0", "1.1", "nan"],
        "--min-fill": ["0", "1.1", "x"],
        "--cards-per-photo": ["41", "3-2", "-1", "3-41", "3-", "", "9" * 30],
        "--blur": ["-1"],
        "--light": ["2"],
        "--glare": ["-0.1"],
        "--noise": ["x"],
        "--quality": ["0", "96"],
    },
    "scripts/evaluate_index.py": {
        "--index": [""],
        "--cache": [""],
        "--sections": ["", "index,colours"],
        "--minutes": ["0", "x", "nan"],
        "--seed": ["-1", "0.5"],
        "--out": [""],
        "--photos": [""],
        "--turn": ["45", "none"],
        "--corner-error": ["-1", "31", "3,x", "", "3,", "nan"],
        "--seeds": ["0"],
        "--min-visible": ["1.1", "-1"],
        "--read": ["sometimes"],
        "--verify": ["on"],
        "--hash-weight": ["-1", "11", "nan"],
        "--html": [""],
        "--device": ["gpu"],
    },
    "scripts/make_offline_model.py": {"--out": [""]},
    "scripts/tune_model.py": SHARED
    | {flag: BUILD[flag] for flag in ("--out", "--model", "--pretrained", "--device", "--loaders")}
    | {
        "--pictures": [""],
        "--table": [""],
        "--minutes": ["0", "x"],
        "--epochs": ["0"],
        "--layers": ["first", "0"],
        "--width": ["7", "4097"],
        "--held-out": ["-1", "91", "x"],
        "--blend": ["-0.1", "1.1"],
        "--seed": ["-1"],
        "--batch": ["1", "0"],
        "--rate": ["-1", "nan"],
        "--temperature": ["0", "2"],
        "--strength": ["1.5"],
        "--clean": ["-1", "2"],
    },
    "scripts/clear_cache.py": {"--cache": [""]},
    "scripts/demo.py": {"--out": [""], "--count": ["0"], "--photographs": ["0"], "--minutes": ["0"]},
}


@pytest.mark.parametrize(
    ("script", "turn"),
    [(script, turn) for script, flags in BAD_VALUES.items() for turn in range(max(map(len, flags.values())))],
)
def test_bad_values_are_named_all_at_once_with_what_to_do(script: str, turn: int) -> None:
    bad = {flag: values[turn] for flag, values in BAD_VALUES[script].items() if turn < len(values)}
    words = [] if NEEDED.get(script, [""])[0] in bad else NEEDED.get(script, [])
    done = run_script(script, *(f"{flag}={value}" for flag, value in bad.items()), *words)
    assert done.returncode == 1
    assert done.stderr.count("ERROR: Invalid Arguments: ") == done.stderr.count("  Suggestion: ") == len(bad)
    for flag in bad:
        assert re.search(rf"^ERROR: Invalid Arguments: {flag} must ", done.stderr, re.MULTILINE)
        assert re.search(rf"^  Details: received {flag}\b", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_that_takes_a_value_has_a_bad_one_above(script: str) -> None:
    options = run_script(script, "--help").stdout.partition("options:")[2]
    assert set(BAD_VALUES[script]) == set(re.findall(r"^  (--[a-z-]+) \[?[A-Z]", options, re.MULTILINE))


def test_the_all_in_one_takes_the_flags_of_all_steps() -> None:
    def flags(script: str) -> set[str]:
        return set(re.findall(r"^  (--[a-z-]+)", run_script(script, "--help").stdout, re.MULTILINE))

    both = flags("download_images.py") | flags("build_embeddings.py")
    browser = flags("export_for_browser.py") - {"--input-dir", "--output-dir"}
    assert flags("build_mtg_faiss.py") == both | {"--export"} | browser


def test_checkpoints_may_be_off(tmp_path: Path) -> None:
    done = run_script("build_embeddings.py", "--checkpoint-frequency", 0, "--cache", tmp_path / "none")
    assert done.returncode == 3  # the flag is fine, the cache is not there


def test_what_is_required_is_named() -> None:
    done = run_script("scripts/validate_cache.py")
    assert (done.returncode, blocks(done.stderr)) == (1, ["ERROR: Invalid Arguments: --cache is required"])


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_signal_in_the_first_moments_ends_a_script_without_a_word(script: str, sent: signal.Signals) -> None:
    done = run_signalled_at_import("helpers.cli_validation", sent, script)
    assert (done.returncode, done.stdout, done.stderr) == (128 + sent, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here, which stands in for a full disk")
def test_a_log_that_takes_no_more_lines_does_not_stop_the_work(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "download_images.py"), "--cache", str(tmp_path), "--limit", "0"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=full, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.startswith("Faces: 0")) == (0, True)


@pytest.mark.parametrize(("script", "code"), [("build_embeddings.py", 3), ("scripts/validate_cache.py", 2)])
def test_a_path_that_is_too_long_is_no_cache(script: str, code: int) -> None:
    done = run_script(script, "--cache", "a" * 300)
    assert done.returncode == code
    assert "ERROR: Configuration Error: the image cache does not exist" in done.stderr


def test_a_path_that_is_too_long_is_no_place_for_an_index(tmp_path: Path) -> None:
    done = run_script("build_mtg_faiss.py", "--cache", tmp_path, "--out", "a" * 300)
    assert (done.returncode, "the --out directory can't be used" in done.stderr) == (1, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here, which stands in for a full disk")
def test_a_full_disk_behind_stdout_is_a_known_failure(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "download_images.py"), "--cache", str(tmp_path), "--limit", "0"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ERROR: Configuration Error: a disk is full" in done.stderr
    assert "Traceback" not in done.stderr


def test_everything_that_is_wrong_is_named_at_once() -> None:
    done = run_script(
        *("build_embeddings.py", "--batch", 0, "--size", "x", "--hnsw-m", 64, "--hnsw-ef-construction", 10),
        *("--refresh", "--offline", "--bacth", 3),
    )
    assert done.returncode == 1
    assert blocks(done.stderr) == [
        "ERROR: Invalid Arguments: --batch must be >= 1",
        "ERROR: Invalid Arguments: --size must be a whole number >= 64",
        "ERROR: Invalid Arguments: unknown argument --bacth",
        "ERROR: Invalid Arguments: --refresh and --offline are mutually exclusive",
        "ERROR: Invalid Arguments: --hnsw-ef-construction must be >= --hnsw-m",
    ]
    assert "did you mean --batch?" in done.stderr


def test_the_example_of_the_contract_reads_as_it_says() -> None:
    done = run_script("build_embeddings.py", "--batch", "0")
    assert done.stderr == (
        "ERROR: Invalid Arguments: --batch must be >= 1\n"
        "  Details: received --batch 0\n"
        "  Suggestion: use --batch 64 or higher\n"
    )


def test_a_rule_between_options_is_not_asked_where_one_of_them_is_broken() -> None:
    done = run_script("build_embeddings.py", "--hnsw-m", 999, "--hnsw-ef-construction", 10)
    assert blocks(done.stderr) == ["ERROR: Invalid Arguments: --hnsw-m must be 4 to 128"]


@pytest.mark.parametrize("arguments", [["--limit"], ["--limit", "--offline"]])
def test_a_flag_without_its_value_is_a_bad_argument(arguments: list[str]) -> None:
    done = run_script("download_images.py", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: Invalid Arguments: ")
    assert "--limit" in done.stderr


def test_a_picture_must_be_named() -> None:
    done = run_script("query_index.py", "--k", 3)
    assert (done.returncode, blocks(done.stderr)) == (1, ["ERROR: Invalid Arguments: IMAGE is required"])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["a.jpg", "--text", "red"], "IMAGE and --text are mutually exclusive"),
        (["--text", "red", "--name", "Island"], "--text and --name are mutually exclusive"),
        (["--text", "red", "--vote"], "--vote can't be used with --text"),
        (["--text", "red", "--sure-above", "0"], "--sure-above can't be used with --text"),
        (["--name", "Island", "--search", "exact"], "--search can't be used with --name"),
        (["--name", "Island", "--detect", "all", "--ef-search", "9"], "--detect and --ef-search can't be used with"),
        (["--name", "Island", "--html", "a.html"], "--html can't be used with --name"),
        (["a.jpg", "--remote-images"], "--remote-images needs --html"),
    ],
)
def test_questions_that_make_no_sense_are_named(words: list[str], problem: str) -> None:
    done = run_script("query_index.py", *words)
    assert (done.returncode, done.stdout) == (1, "")
    (first,) = blocks(done.stderr)
    assert first.startswith(f"ERROR: Invalid Arguments: {problem}")


def test_the_default_server_can_be_set_by_the_environment() -> None:
    done = run_script("download_images.py", "--help", env={"SCRYFALL_API_URL": "http://127.0.0.1:1"})
    assert "http://127.0.0.1:1" in done.stdout
    done = run_script("download_images.py", env={"SCRYFALL_API_URL": "nonsense"})
    assert (done.returncode, blocks(done.stderr)) == (
        1,
        ["ERROR: Invalid Arguments: --api-url must be an http(s) address"],
    )


def test_a_password_in_a_server_s_address_is_refused_and_not_shown() -> None:
    done = run_script("download_images.py", env={"SCRYFALL_API_URL": "https://me:secret@cards.example"})
    assert (done.returncode, "secret" in done.stderr) == (1, False)
    (problem,) = blocks(done.stderr)
    assert problem.startswith("ERROR: Invalid Arguments: --api-url must have no user name or password")


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_imports_another(script: str) -> None:
    others = {name.rpartition("/")[2].removesuffix(".py") for name in SCRIPTS}
    tree = ast.parse((ROOT / script).read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert not imported & others
