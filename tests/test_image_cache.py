import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.cards.image_cache import ImageCache
from helpers.errors import PipelineError
from tests.pictures import BROKEN, encoded, write


@pytest.mark.parametrize(
    ("url", "ending"),
    [
        ("https://c.example/normal/a.jpg?17", ".jpg"),
        ("https://c.example/png/a.png?17", ".png"),
        ("https://c.example/grid/a.webp", ".webp"),
        ("https://c.example/a?file=x.png", ".jpg"),
    ],
)
def test_a_file_is_named_by_the_sha1_of_its_url(tmp_path: Path, url: str, ending: str) -> None:
    assert ImageCache(tmp_path).path_for(url) == tmp_path / (hashlib.sha1(url.encode()).hexdigest() + ending)


def test_another_version_of_a_picture_is_another_file(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path)
    cache.store("https://c.example/a.jpg?1", encoded())
    assert cache.has("https://c.example/a.jpg?1")
    assert not cache.has("https://c.example/a.jpg?2")


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_not_there(tmp_path: Path, how: str) -> None:
    cache = ImageCache(tmp_path)
    write(cache.path_for("u"), BROKEN[how])
    assert not cache.has("u")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_can_not_be_written_is_a_known_failure(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PipelineError, match="can't be written to"):
        ImageCache(tmp_path).store("u", encoded())


def test_a_folder_that_vanished_is_a_known_failure(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    cache = ImageCache(tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(PipelineError, match="can't be written to"):
        cache.store("u", encoded())


def test_only_pictures_are_pictures(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "c.webp", "d.jpg.1-2.part", "download_report.json", "unique_artwork.list.json"):
        (tmp_path / name).write_bytes(b"x")
    assert sorted(path.name for path in ImageCache(tmp_path).pictures()) == ["a.jpg", "b.png", "c.webp"]


@given(
    st.sampled_from(["https://a.example", "http://b.example:8000", "https://x.png"]),
    st.text("ab/.%", max_size=8),
    st.sampled_from(["", ".png", ".WebP", ".jpg", ".png.jpg", "png", ".webp/"]),
    st.sampled_from(["", "?1700000000", "?a=b.png", "#c.webp", "?#.png"]),
)
def test_the_ending_is_that_of_the_addresss_path(host: str, path: str, ending: str, rest: str) -> None:
    url = f"{host}/{path}{ending}{rest}" if path or ending else host + rest
    expected = next((s for s in (".png", ".webp") if urlsplit(url).path.lower().endswith(s)), ".jpg")
    assert ImageCache.name_for(url) == hashlib.sha1(url.encode()).hexdigest() + expected
