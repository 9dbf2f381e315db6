"""Hostile files, tried for real: see SECURITY.md, which names other tests beside these."""

import ast
import hashlib
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import pytest

from helpers.artifacts import IndexFolder
from helpers.cards.image_cache import ImageCache
from helpers.cards.list_text import BadText, iter_decoded
from helpers.embed.model_source import find_model, prefer_cached_weights
from helpers.errors import PipelineError
from helpers.index.store import StoredIndex
from helpers.index.whitening import Whitening
from helpers.validation import BrokenImage, decode_image, read_photo
from tests.conftest import ROOT, Built

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"


def calls_of(do: Callable[[], object]) -> int:
    """How many functions Python calls in `do`: a measure of work that no busy machine changes."""
    count = 0

    def heed(_frame: FrameType, event: str, _what: object) -> None:
        nonlocal count
        count += event == "c_call"

    sys.setprofile(heed)
    try:
        do()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("text", [b"{" + b"\n" * 20_000, b"[\n" + b"5\n" * 10_000], ids=["in a card", "between"])
def test_a_list_of_many_lines_that_end_nowhere_is_read_in_a_few_pieces(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "list.json").write_bytes(text)

    def read() -> None:
        with pytest.raises(BadText, match="ends in the middle"):
            list(iter_decoded(tmp_path / "list.json", msgspec.json.decode))

    assert calls_of(read) < 1000  # else each line is searched with all that came before it: hours for 4 MB


def test_an_index_that_names_another_file_does_not_open_it(tmp_path: Path) -> None:
    import faiss

    from helpers.index.faiss_index import CardIndex

    rows = np.random.default_rng(0).standard_normal((64, 8), np.float32)
    quantizer = faiss.IndexFlatL2(8)
    index = faiss.IndexIVFFlat(quantizer, 8, 1)
    index.train(rows)
    lists = faiss.OnDiskInvertedLists(1, index.code_size, str(tmp_path / "victim"))
    index.replace_invlists(lists)
    index.add(rows)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    (tmp_path / "victim").unlink()  # so that an attempt to open it fails
    with pytest.raises(PipelineError, match="not a usable index") as found:
        CardIndex.load(tmp_path / "index.faiss")
    assert "IndexIVFFlat" in found.value.problems[0].details


@pytest.mark.parametrize("part", ["neighbors", "offsets", "entry_point"])
def test_an_index_whose_graph_leads_out_of_its_memory_is_refused(tmp_path: Path, part: str) -> None:
    import faiss

    from helpers.index.faiss_index import CardIndex

    index = faiss.IndexHNSWFlat(8, 4, faiss.METRIC_INNER_PRODUCT)
    index.add(np.random.default_rng(0).standard_normal((64, 8), np.float32))
    graph: Any = index.hnsw
    if part == "entry_point":
        graph.entry_point = 10**6
    else:
        vector = getattr(graph, part)
        faiss.rev_swig_ptr(vector.data(), vector.size())[1:] = 10**6
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    with pytest.raises(PipelineError, match="not a usable index"):
        CardIndex.load(tmp_path / "index.faiss")


def test_a_whitening_that_was_compressed_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whitening.npz", mean=np.zeros(8, "f4"), axes=np.zeros((8, 10**6), "f4"))
    with pytest.raises(ValueError, match="may fill the memory"):
        Whitening.load(tmp_path / "whitening.npz")
    (tmp_path / "no zip").write_bytes(b"\x93NUMPY")
    with pytest.raises(zipfile.BadZipFile):
        Whitening.load(tmp_path / "no zip")


class Touch:
    """Unpickling it would run a command."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self._path}'",)


@pytest.mark.parametrize("form", ["zip", "legacy", pytest.param("npz", marks=pytest.mark.slow)])
def test_weights_with_a_command_in_them_do_not_run_it(tmp_path: Path, tiny: Path, form: str) -> None:
    import torch

    from helpers.embed.models import load_model

    ran, weights = tmp_path / "ran", {"visual.proj": Touch(tmp_path / "ran")}
    if form == "npz":
        np.savez(tmp_path / "weights.npz", embedding=np.array([Touch(ran)], dtype=object))
        source = find_model("ViT-B-32-quickgelu", str(tmp_path / "weights.npz"))
    else:
        shutil.copy(tiny / "open_clip_config.json", tmp_path)
        file = tmp_path / "open_clip_pytorch_model.bin"
        torch.save(weights, file, _use_new_zipfile_serialization=form == "zip")
        source = find_model(f"local-dir:{tmp_path}", "")
    with pytest.raises(PipelineError, match="could not be loaded"):
        load_model(source)
    assert not ran.exists()


def test_arrays_with_a_command_in_them_do_not_run_it(built: Built, tmp_path: Path) -> None:
    index, ran = tmp_path / "index", tmp_path / "ran"
    shutil.copytree(built.index, index)
    np.save(index / "mtg_dhash.npy", np.array([Touch(ran)], dtype=object))
    np.savez(index / "whitening.npz", mean=np.array([Touch(ran)], dtype=object))
    manifest = json.loads((index / "build_manifest.json").read_text())
    for name in ("mtg_dhash.npy", "whitening.npz"):  # as those who forge an index would
        manifest["sha256"][name] = hashlib.sha256((index / name).read_bytes()).hexdigest()
    (index / "build_manifest.json").write_text(json.dumps(manifest))
    stored = StoredIndex(IndexFolder(index))
    for read in (stored.hashes, stored.whitening):
        with pytest.raises(PipelineError, match="does not belong to this index"):
            read()
    assert not ran.exists()


def test_nothing_is_unpickled_anywhere() -> None:
    """torch.load only with weights_only, np.load never with allow_pickle, no load of pickle's."""
    for file in (*ROOT.glob("*.py"), *ROOT.glob("helpers/**/*.py"), *ROOT.glob("scripts/**/*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                name = ast.unparse(call.func)
                given = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert not name.startswith(("pickle.", "marshal.", "dill.")), f"{file}: {name}"
                assert "allow_pickle" not in given, f"{file}: {name}"
                assert name != "torch.load" or given.get("weights_only") == "True", f"{file}: {name}"


@pytest.mark.parametrize(
    "address",
    ["../secret.jpg", "a/../../secret.jpg", "%2e%2e/secret.jpg", "..%2fsecret.jpg", "/etc/passwd", "%2fetc/passwd",
     "https://a.example/../secret.jpg", "https://a.example/%2e%2e/secret.jpg", "", "."],
)  # fmt: skip
def test_one_s_own_pictures_stay_in_their_folder(tmp_path: Path, address: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    path = ImageCache(folder).path_for(address)
    assert path != folder
    assert path.resolve().parent == folder.resolve()


def test_every_test_that_the_security_page_names_is_there() -> None:
    tests = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    assert not [name for name in named if f"def {name}(" not in tests]


def test_offline_holds_for_a_local_model_whose_configuration_may_name_others(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    prefer_cached_weights(find_model(f"local-dir:{tiny}", ""), offline=True)
    assert os.environ.pop("HF_HUB_OFFLINE", None) == "1"


def test_postscript_named_as_a_picture_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from standin_scryfall import picture_bytes

    gs = tmp_path / "gs"  # Pillow would call Ghostscript
    gs.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "card.jpg").write_bytes(EPS)
    for read in (
        lambda: decode_image(EPS),
        lambda: read_photo(tmp_path / "card.jpg"),
        lambda: picture_bytes(tmp_path / "card.jpg", "normal"),
    ):
        with pytest.raises(BrokenImage):
            read()
    assert not (tmp_path / "ran").exists()
