"""Make's chains, seen by dry runs: what they would call, the scripts take."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.pictures import encoded, write

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
DEVICES = ("auto", "cpu", "cuda", "mps")
ISSUE_ASKS_FOR = {
    *("download", "embed", "export", "query", "validate", "serve", "lint", "test", "demo", "build", "build-cpu"),
    *("build-cuda", "build-mps", "conda-cpu", "conda-gpu", "conda-mps", "clean", "clean-cache"),
}


def make(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run make as a user without settings of his own would."""
    settings = ("MAKE", "CONDA", "MFLAGS", "VENV", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=kept | environment,
        check=False,
        timeout=60,
    )


def dry_run(*words: str, **environment: str) -> list[list[str]]:
    """The commands that make would run, as words; the environment counts as installed."""
    done = make("--dry-run", "--assume-old=.venv/.installed", *words, **environment)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.replace("\\\n", " ").splitlines()]


def scripts_of(commands: list[list[str]]) -> list[list[str]]:
    """Of these the calls of our scripts: the script and its arguments."""
    calls = [words for words in commands if len(words) > 1 and words[1].endswith(".py")]
    assert all(words[0] == ".venv/bin/python" for words in calls)
    return [words[1:] for words in calls]


def parsed(call: list[str]) -> object:
    """What the script makes of its arguments; PipelineError where it does not take them."""
    script, *arguments = call
    module = script.removesuffix(".py").replace("/", ".").removeprefix("scripts.")
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(module).parse_args(arguments)
    finally:
        sys.path.remove(str(ROOT))


def test_every_target_is_there() -> None:
    assert set(TARGETS) >= ISSUE_ASKS_FOR
    phony = MAKEFILE.replace("\\\n", " ").partition(".PHONY:")[2].partition("\n")[0].split()
    assert sorted(phony) == sorted(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_runs_dry_and_every_script_takes_what_it_is_given(target: str) -> None:
    commands = dry_run(target, "IMG=a photo.jpg")
    assert commands
    for call in scripts_of(commands):
        assert (ROOT / call[0]).is_file()
        assert parsed(call)


@pytest.mark.parametrize("target", TARGETS)
def test_help_names_every_target(target: str) -> None:
    assert re.search(rf"^  make {target} +\S", make().stdout, re.MULTILINE)


CHAINS = {
    "download": ["download_images.py"],
    "embed": ["build_embeddings.py"],
    "export": ["export_for_browser.py"],
    "build": ["build_mtg_faiss.py"],
    "refresh": ["build_mtg_faiss.py"],
    "build-cuda": ["build_mtg_faiss.py"],
    "query": ["query_index.py"],
    "validate": ["scripts/validate_cache.py"],
    "demo": ["scripts/demo.py"],
    "clean-cache": ["scripts/clear_cache.py"],
}


@pytest.mark.parametrize("target", CHAINS)
def test_chains_call_their_scripts_in_order(target: str) -> None:
    assert [call[0] for call in scripts_of(dry_run(target, "IMG=a.jpg"))] == CHAINS[target]


@pytest.mark.parametrize("target", ["build", "refresh", "embed"])
def test_what_is_not_set_is_left_to_the_scripts_memory(target: str) -> None:
    (call,) = scripts_of(dry_run(target))
    assert not {"--kind", "--cache"} & set(call)
    (call,) = scripts_of(dry_run(target, "KIND=all_cards", "CACHE=c"))
    assert {"--kind", "--cache"} <= set(call)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("target", ["build", "embed", "query"])
def test_the_device_is_handed_on(target: str, device: str) -> None:
    arguments = parsed(scripts_of(dry_run(target, f"DEVICE={device}", "IMG=a.jpg"))[0])
    assert getattr(arguments, "device") == device  # noqa: B009  # the type is not known here


@pytest.mark.parametrize("device", DEVICES[1:])
def test_a_build_for_a_device_means_it(device: str) -> None:
    for words in ([f"build-{device}"], [f"build-{device}", "DEVICE=auto"]):
        assert f"--device {device}" in shlex.join(scripts_of(dry_run(*words))[0])


def test_variables_reach_the_scripts_whatever_they_hold() -> None:
    odd = "it's a; folder $HOME"
    for target in ("download", "embed", "export", "build", "query", "validate", "clean-cache"):
        words = dry_run(
            target, f"CACHE={odd.replace('$', '$$')}", f"OUT={odd.replace('$', '$$')}", "IMG=a.jpg", "KIND=all_cards"
        )
        for call in scripts_of(words):
            assert odd in call
    (call,) = scripts_of(dry_run("download", "ARGS=--limit 7 --workers 2"))
    arguments = vars(parsed(call))
    assert (arguments["limit"], arguments["workers"]) == (7, 2)


@pytest.mark.parametrize("target", ["download", "query", "demo", "test", "lint", "serve", "clean-cache"])
def test_an_environment_may_have_a_blank_in_its_name(target: str) -> None:
    commands = dry_run(target, "VENV=my env", "--assume-old=my env/.installed", "IMG=a.jpg")
    assert any(words[0].startswith("my env/bin/") for words in commands)
    assert not any(words[0].startswith("my") and "/bin/" not in words[0] for words in commands)


# In place of a Python: notes what it is asked, makes environments with one like it, has no pip until that is made
STAND_IN = """#!/bin/sh
echo "${0#$PWD/} $*" >>asked
case "$*" in
*"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python";;
*"-m ensurepip") touch "$0.pip";;
*"-m pip --version") [ -e "$0.pip" ];;
*version_info*) ! [ -e "$0.old" ];;
esac
"""


def stand_in(python: Path) -> Path:
    """Put a stand-in for Python there."""
    python.parent.mkdir(parents=True, exist_ok=True)
    write(python, STAND_IN.encode()).chmod(0o755)
    return python


def asked_of(project: Path) -> list[str]:
    """What the stand-ins in the project were asked, checks left out: environments made, packages installed."""
    lines = (project / "asked").read_text().splitlines()
    return [line for line in lines if re.search(r"-m (venv|ensurepip|pip install)", line)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What make needs of the project to install it."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        write(tmp_path / name, (ROOT / name).read_bytes())
    return tmp_path


def test_an_environment_is_made_once_wherever_it_is_and_whatever_python_is_called(project: Path) -> None:
    words = ("-C", str(project), "env", "VENV=my env", f"PYTHON={stand_in(project / 'my python')}")
    first, second = (make(*words, 'PIP_ARGS=--a "b c"') for _ in "12")
    assert first.returncode == 0, first.stderr
    assert (project / "my env" / ".installed").is_file()
    assert asked_of(project) == [
        "my python -m venv my env",
        "my env/bin/python -m ensurepip",
        "my env/bin/python -m pip install --quiet --a b c -r requirements-dev.txt",
    ]
    assert "Nothing to be done" in second.stdout


def test_an_environment_that_is_there_is_not_made_again(project: Path) -> None:
    """Whoever made it: python -m venv, uv, conda."""
    stand_in(project / ".venv" / "bin" / "python").with_name("python.pip").touch()
    assert make("-C", str(project), "env", "PYTHON=no-such-python").returncode == 0
    assert asked_of(project) == [".venv/bin/python -m pip install --quiet -r requirements-dev.txt"]


def test_the_doctor_comes_before_the_environment_and_makes_none(project: Path) -> None:
    python = stand_in(project / "python3")
    assert make("-C", str(project), "doctor", f"PYTHON={python}", "KIND=all_cards", "PORT=9").returncode == 0
    (asked,) = (project / "asked").read_text().splitlines()
    assert asked.split() == ["python3", "scripts/doctor.py", "--kind", "all_cards", "--out", "index_out", "--port", "9"]
    stand_in(project / ".venv" / "bin" / "python")
    make("-C", str(project), "doctor", f"PYTHON={python}")
    assert (project / "asked").read_text().splitlines()[1].startswith(".venv/bin/python scripts/doctor.py")


ACTIVATED = [{"VIRTUAL_ENV": "my env"}, {"CONDA_DEFAULT_ENV": "cards", "CONDA_PREFIX": "my env"}]


@pytest.mark.parametrize("activated", ACTIVATED, ids=["virtualenv", "conda"])
def test_an_activated_environment_is_used_and_installed_into_by_make_env_alone(
    project: Path, activated: dict[str, str]
) -> None:
    activated = activated | {name: f"{project}/my env" for name, value in activated.items() if value == "my env"}
    stand_in(project / "my env" / "bin" / "python")
    assert make("-C", str(project), "download", **activated).returncode == 0
    assert (project / "asked").read_text().strip() == "my env/bin/python download_images.py"
    done = make("-C", str(project), "env", **activated)
    assert f"Installing into the activated environment {project}/my env" in done.stderr
    assert asked_of(project)[-1] == "my env/bin/python -m pip install --quiet -r requirements-dev.txt"
    assert {path.name for path in (project / "my env").iterdir()} == {"bin"}


def test_an_activated_environment_is_not_used_where_another_is_named_or_it_is_gone_or_is_conda_s_base(
    project: Path,
) -> None:
    other = str(stand_in(project / "other" / "bin" / "python").parents[1])
    stand_in(project / ".venv" / "bin" / "python")
    (project / "link").symlink_to(project / ".venv")
    for environment in (
        {"VIRTUAL_ENV": other, "VENV": ".venv"},
        {"VIRTUAL_ENV": f"{project}/gone"},
        {"CONDA_DEFAULT_ENV": "base", "CONDA_PREFIX": other},
        {"VIRTUAL_ENV": f"{project}/link"},  # the project's own: it is kept up to date
    ):
        done = make("-C", str(project), "--dry-run", "download", **environment)
        assert done.stdout.splitlines()[-1].startswith("'.venv/bin/python' download_images.py")
        assert "pip install" in done.stdout
    assert "other/bin" not in make("-C", str(project), "-n", "env", "VENV=.venv", VIRTUAL_ENV=other).stdout


@pytest.mark.parametrize("activated", [True, False])
def test_an_environment_with_an_old_python_is_refused(project: Path, activated: bool) -> None:
    stand_in(project / ".venv2" / "bin" / "python").with_name("python.old").touch()
    more = {"VIRTUAL_ENV" if activated else "VENV": f"{project}/.venv2"}
    done = make("-C", str(project), "env", **more)
    assert done.returncode == 2
    assert "ERROR: Configuration Error: Python >= 3.10 with its venv module is needed\n  Details: " in done.stderr
    assert asked_of(project) == []


def test_a_tilde_that_the_shell_left_is_the_home_directory() -> None:
    for call in scripts_of(dry_run("build", "CACHE=~/my cards", "OUT=~/index", HOME="/home/me")):
        assert not any(word.startswith("~") for word in call)
        assert {"/home/me/my cards", "/home/me/index"} & set(call)


def test_several_pictures_are_several_unless_a_file_has_that_name(tmp_path: Path) -> None:
    (tmp_path / "my photo's.jpg").touch()
    two, one = dry_run("query", "IMG=a.jpg b.jpg"), dry_run("query", f"IMG={tmp_path}/my photo's.jpg")
    assert vars(parsed(scripts_of(two)[0]))["image"] == ["a.jpg", "b.jpg"]
    assert vars(parsed(scripts_of(one)[0]))["image"] == [f"{tmp_path}/my photo's.jpg"]


def test_query_asks_for_a_picture() -> None:
    done = make("query", "--assume-old=.venv/.installed")
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: Invalid Arguments: IMG is required\n  Details: ")


@pytest.mark.parametrize("kind", ["cpu", "gpu", "mps"])
def test_conda_is_given_the_file_of_the_machine(kind: str) -> None:
    *_, words = dry_run(f"conda-{kind}", "CONDA=mamba")
    assert words[:3] == ["mamba", "env", "update"]
    assert f"environment-{kind}.yml" in words


def test_a_machine_without_conda_is_told() -> None:
    done = make("conda-cpu", "CONDA=no-such-conda")
    assert (done.returncode, "no-such-conda was not found" in done.stderr) == (2, True)


def test_clean_never_touches_pictures_index_or_environment(tmp_path: Path) -> None:
    """Run for real, in a copy of the Makefile's own."""
    kept = ["image_cache/a.jpg", "index_out/build_manifest.json", ".venv/bin/python", "my.jpg"]
    gone = ["demo/cards/001a.jpg", ".pytest_cache/x", "helpers/__pycache__/x.pyc"]
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    write(tmp_path / "Makefile", MAKEFILE.encode())
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert all((tmp_path / name).is_file() for name in kept)
    assert not any((tmp_path / name).exists() for name in gone)


@pytest.mark.parametrize(
    "variable", ["CACHE=demo/image_cache", "OUT=demo", "VENV=./demo/env", "OUT=HERE/demo/index_out"]
)
def test_clean_refuses_to_remove_what_is_named(tmp_path: Path, variable: str) -> None:
    (tmp_path / "demo").mkdir()
    write(tmp_path / "Makefile", MAKEFILE.encode())
    variable = variable.replace("HERE", str(tmp_path))
    done = subprocess.run(["make", "clean", variable], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "is in it" in done.stderr) == (2, True)
    assert (tmp_path / "demo").is_dir()


@pytest.mark.parametrize("index", ["index_out", "my/index"])
def test_clean_refuses_to_remove_a_model_that_an_index_needs(tmp_path: Path, index: str) -> None:
    manifest = {"model": {"name": f"local-dir:{tmp_path / 'demo' / 'model'}"}}
    (tmp_path / "demo").mkdir()
    (tmp_path / index).mkdir(parents=True)
    write(tmp_path / index / "build_manifest.json", json.dumps(manifest).encode())
    write(tmp_path / "Makefile", MAKEFILE.encode())
    done = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, f"{index}/build_manifest.json names it" in done.stderr) == (2, True)
    assert (tmp_path / "demo").is_dir()


def test_settings_of_the_shell_do_not_change_what_a_target_works_on() -> None:
    (call,) = scripts_of(
        dry_run("download", OUT="/elsewhere", CACHE="/elsewhere", KIND="nonsense", DEVICE="tpu", ARGS="-x")
    )
    assert "/elsewhere" not in call
    assert parsed(call)


def test_nothing_is_installed_only_to_ask_for_a_picture(tmp_path: Path) -> None:
    done = make("query", f"VENV={tmp_path / 'none'}")
    assert done.stderr.startswith("ERROR: Invalid Arguments: IMG is required")
    assert not (tmp_path / "none").exists()


def test_serve_fetches_the_libraries_and_then_listens_where_it_is_told_to() -> None:
    vendor, call = scripts_of(dry_run("serve", "HOST=0.0.0.0", "PORT=9000", "OUT=my index"))
    assert vendor == ["scripts/vendor_web.py"]
    assert call[1:] == ["--index", "my index", "--host", "0.0.0.0", "--port", "9000"]
    *_, call = scripts_of(dry_run("serve", "CACHE=c"))
    assert call[-2:] == ["--cache", "c"]


def test_serve_goes_on_without_the_libraries_of_the_page(tmp_path: Path) -> None:
    write(tmp_path / "Makefile", MAKEFILE.encode())
    (tmp_path / "scripts").mkdir()
    write(tmp_path / "scripts" / "vendor_web.py", b"raise SystemExit('npm is needed')")
    write(tmp_path / "scripts" / "serve_web.py", b"print('http://127.0.0.1:8000/')")
    words = ["make", "serve", f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.installed"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "npm is needed" in done.stderr) == (0, True)
    assert "http://127.0.0.1:8000/" in done.stdout


def test_ci_runs_all_else_where_npm_and_chromium_can_not_be_had(tmp_path: Path) -> None:
    bash, log = shutil.which("bash"), tmp_path / "log"
    assert bash is not None
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "")
    for name, text in {
        "make": f'echo "$1" >>"{log}"; [ "$1" != vendor ]',
        "apt-get": "exit 100",
        "python3": "",
    }.items():
        write(tmp_path / name, f"#!{bash}\n{text}\n".encode()).chmod(0o755)
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run([bash, ".ci/run"], cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert log.read_text().split() == ["env", "vendor", "lint", "test", "test-slow"]
    for what in ("npm can't be installed", "chromium can't be installed", "libraries can't be fetched", "TypeScript"):
        assert what in done.stderr


def test_serve_says_why_it_can_not(tmp_path: Path) -> None:
    installed = [f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.installed"]
    write(tmp_path / "npm", b"#!/bin/sh\nexit 1\n").chmod(0o755)  # nothing is fetched
    done = make("serve", f"OUT={tmp_path / 'none'}", *installed, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode, "nothing to serve" in done.stderr) == (2, True)


def test_clean_cache_says_what_it_deletes(tmp_path: Path) -> None:
    picture = write(tmp_path / ("ab" * 20 + ".jpg"), encoded())
    done = make("clean-cache", f"CACHE={tmp_path}", f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.installed")
    assert done.returncode == 0, done.stderr
    assert "1 pictures" in done.stdout
    assert not picture.exists()
