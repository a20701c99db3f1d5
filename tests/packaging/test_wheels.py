"""The names, the metadata and the index of the wheels of a release, on wheels without code.

``make wheel`` tests a real one.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import html.parser
import io
import re
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import pytest

from wheels.build import add_label, torch_minor
from wheels.environments import (
    make_environment,
    pip_install,
    pretend_torch,
    required,
    site_packages,
)
from wheels.index import main, write_index

TAG = "py3-none-any"
METADATA = """Metadata-Version: 2.1
Name: shardplan
Version: {version}
License: a
        
        b
Requires-Python: >=3.10,<4
{requires}
Version: 0.1.0
"""


def tiny_wheel(folder: Path, version: str, torch: str, requires: str = "", tag: str = TAG) -> Path:
    """Writes a wheel of shardplan that has metadata and the versions of its build, and no code."""
    info = f"shardplan-{version}.dist-info"
    files = {
        "shardplan/__init__.py": "",
        "shardplan/_build_info.py": f'SHARDPLAN = "0.1.0"\nTORCH = "{torch}"\n',
        f"{info}/METADATA": METADATA.format(version=version, requires=requires),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"shardplan-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        lines = [f"{name},{record_hash(text.encode())}\n" for name, text in files.items()]
        archive.writestr(f"{info}/RECORD", "".join(lines) + f"{info}/RECORD,,\n")
    return wheel


def record_hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest},{len(data)}"


def released(folder: Path, *minors: str, release: str = "0.1.0") -> Path:
    """Writes a wheel for each torch minor, as `make wheel` names them. Returns the folder."""
    for minor in minors:
        version = f"{release}+torch{minor}"
        tiny_wheel(folder, version, f"{minor}.0", f"Requires-Dist: torch=={minor}.*\n")
    return folder


def test_the_torch_is_the_one_of_the_build(tmp_path: Path) -> None:
    assert torch_minor(tiny_wheel(tmp_path, "0.1.0", "2.13.1+cu130")) == "2.13"
    assert torch_minor(tiny_wheel(tmp_path, "0.2.0", "2.9.0a0+git12")) == "2.9"
    with pytest.raises(ValueError, match="does not name the torch"):
        torch_minor(tiny_wheel(tmp_path, "0.3.0", ""))


def test_a_label_is_in_the_name_and_in_the_metadata(tmp_path: Path) -> None:
    pytest.importorskip("wheel")
    plain = tiny_wheel(tmp_path / "plain", "0.1.0", "2.13.0+cpu", tag="cp311-cp311-linux_x86_64")
    labelled = add_label(plain, tmp_path / "out")
    assert labelled.name == "shardplan-0.1.0+torch2.13-cp311-cp311-linux_x86_64.whl"
    info = "shardplan-0.1.0+torch2.13.dist-info"
    before, after = zipfile.ZipFile(plain), zipfile.ZipFile(labelled)
    old = before.read("shardplan-0.1.0.dist-info/METADATA").decode().splitlines()
    new = after.read(f"{info}/METADATA").decode().splitlines()
    named = ["Version: 0.1.0+torch2.13", "Requires-Dist: torch==2.13.*"]
    assert new == [*old[:2], *named, *old[3:]]
    built = after.read("shardplan/_build_info.py").decode()
    assert built == 'SHARDPLAN = "0.1.0+torch2.13"\nTORCH = "2.13.0+cpu"\n'
    rows = {
        row[0]: ",".join(row[1:])
        for row in csv.reader(io.TextIOWrapper(after.open(f"{info}/RECORD")))
    }
    assert rows.keys() == set(after.namelist())
    for name in rows.keys() - {f"{info}/RECORD"}:
        assert rows[name] == record_hash(after.read(name))


def test_a_wheel_gets_one_label(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path, "0.1.0+torch2.13", "2.13.0")
    with pytest.raises(ValueError, match=re.escape("already has the label torch2.13")):
        add_label(wheel, tmp_path / "out")


def test_a_wheel_with_another_version_in_its_files_is_rejected(tmp_path: Path) -> None:
    pytest.importorskip("wheel")
    wheel = tiny_wheel(tmp_path, "0.2.0", "2.13.0")
    with pytest.raises(
        ValueError, match=re.escape("""_build_info.py has no line 'SHARDPLAN = "0.2.0"'""")
    ):
        add_label(wheel, tmp_path / "out")


class Anchors(html.parser.HTMLParser):
    """The attributes and the texts of the anchors of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.attributes.append(dict(attrs))
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() and self.get_starttag_text().startswith("<a "):
            self.texts[-1] += data.strip()


def listed(root: Path) -> dict[str, dict[str, str | None]]:
    """Returns the name of each wheel that an index lists, with the attributes of its anchor."""
    assert Anchors((root / "index.html").read_text()).attributes == [{"href": "shardplan/"}]
    anchors = Anchors((root / "shardplan" / "index.html").read_text())
    return dict(zip(anchors.texts, anchors.attributes, strict=True))


def test_there_is_an_index_of_all_wheels_and_one_for_each_torch(tmp_path: Path) -> None:
    wheels = released(tmp_path / "dist", "2.13", "2.14")
    released(wheels, "2.13", release="0.2.0")
    roots = write_index(wheels, tmp_path / "index")
    folders = [tmp_path / "index", tmp_path / "index/torch2.13", tmp_path / "index/torch2.14"]
    assert roots == [folder / "simple" for folder in folders]
    everything, of_13, of_14 = map(listed, roots)
    assert set(everything) == {wheel.name for wheel in wheels.iterdir()}
    assert set(of_13) == {
        f"shardplan-{release}+torch2.13-{TAG}.whl" for release in ("0.1.0", "0.2.0")
    }
    assert set(of_14) == {f"shardplan-0.1.0+torch2.14-{TAG}.whl"}


def test_a_link_has_the_hash_and_the_pythons_of_its_wheel(tmp_path: Path) -> None:
    wheels = released(tmp_path / "dist", "2.13")
    for root in write_index(wheels, tmp_path / "index"):
        ((name, attributes),) = listed(root).items()
        assert attributes["data-requires-python"] == ">=3.10,<4"
        page = (root / "shardplan").as_uri() + "/"
        url = urllib.parse.urljoin(page, attributes["href"])
        assert "+" not in url
        wheel = Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
        assert wheel.read_bytes() == (wheels / name).read_bytes()
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        assert urllib.parse.urlsplit(url).fragment == f"sha256={digest}"


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_wheels_can_be_elsewhere(tmp_path: Path, slash: str) -> None:
    wheels = released(tmp_path / "dist", "2.13")
    name = f"shardplan-0.1.0%2Btorch2.13-{TAG}.whl"
    for root in write_index(wheels, tmp_path / "index", f"https://files.example.org/a{slash}"):
        ((_, attributes),) = listed(root).items()
        url = attributes["href"] or ""
        assert url.startswith(f"https://files.example.org/a/{name}#sha256=")
    assert not list((tmp_path / "index").rglob("*.whl"))


def rejection(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="2"):
        main([str(folder), str(folder / "index")])
    assert not (folder / "index").exists()
    return capsys.readouterr().err


def test_a_folder_without_wheels_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"there are no wheels in {tmp_path}" in rejection(tmp_path, capsys)


def test_a_wheel_without_a_label_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = tiny_wheel(tmp_path, "0.1.0", "2.13.0")
    message = rejection(released(tmp_path, "2.14"), capsys)
    assert f"{wheel.name} is not a wheel of shardplan for one torch" in message


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes")
    write_index(released(folder / "dist", "2.9", "2.13", "2.14"), folder / "index")
    return folder / "index"


def environment_with(folder: Path, torch: str) -> Path:
    environment = make_environment(folder / "venv")
    pretend_torch(environment, torch)
    return environment


@pytest.fixture(scope="module")
def torches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that has torch 2.13 and 2.14, as PyPI has."""
    root = tmp_path_factory.mktemp("torches")
    (root / "torch").mkdir()
    links = []
    for version in ("2.13.0", "2.14.0"):
        wheel = root / "torch" / f"torch-{version}-{TAG}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            info = f"torch-{version}.dist-info"
            metadata = f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
            archive.writestr(f"{info}/METADATA", metadata)
            archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {TAG}\n")
            archive.writestr(f"{info}/RECORD", "")
        links.append(f'<a href="{wheel.name}">{wheel.name}</a>')
    (root / "torch" / "index.html").write_text("<!DOCTYPE html>" + "".join(links))
    return root


INSTALLED = ["2.13.0+cpu", "2.13.1", "2.14.0+cu130"]


@pytest.mark.parametrize("torch", INSTALLED)
@pytest.mark.parametrize("has_all", [True, False])
def test_pip_installs_the_wheel_for_the_torch(
    tmp_path: Path, indexes: Path, torch: str, has_all: bool
) -> None:
    environment = environment_with(tmp_path, torch)
    minor = ".".join(torch.split(".")[:2])
    index = indexes / "simple" if has_all else indexes / f"torch{minor}" / "simple"
    result = pip_install(environment, index, "shardplan")
    assert result.returncode == 0, result.stderr
    assert f"Successfully installed shardplan-0.1.0+torch{minor}\n" in result.stdout
    found = {path.name for path in site_packages(environment).glob("*.dist-info")}
    assert {f"torch-{torch}.dist-info", f"shardplan-0.1.0+torch{minor}.dist-info"} <= found


@pytest.mark.parametrize("torch", ["2.12.1", "2.15.0"])
@pytest.mark.parametrize("index", ["simple", "torch2.13/simple"])
def test_pip_refuses_if_there_is_no_wheel_for_the_torch(
    tmp_path: Path, indexes: Path, torch: str, index: str
) -> None:
    environment = environment_with(tmp_path, torch)
    result = pip_install(environment, indexes / index, "shardplan")
    assert result.returncode != 0
    # "No matching distribution found for ..." for one wheel, and a conflict for several.
    assert "torch==2.13.*" in result.stdout + result.stderr
    assert not list(site_packages(environment).glob("shardplan*"))


@pytest.mark.parametrize("torch", ["2.13.0+cpu", "2.13.0"])
def test_beside_an_index_of_torches_the_index_of_one_torch_keeps_it(
    tmp_path: Path, indexes: Path, torches: Path, torch: str
) -> None:
    environment = environment_with(tmp_path, torch)
    extra = ["--dry-run", "shardplan", "--extra-index-url"]
    of_one = (indexes / "torch2.13" / "simple").as_uri()
    result = pip_install(environment, torches, *extra, of_one)
    assert "Would install shardplan-0.1.0+torch2.13\n" in result.stdout, result.stderr
    of_all = (indexes / "simple").as_uri()
    result = pip_install(environment, torches, *extra, of_all)
    # This is why there is an index for each torch.
    assert "Would install shardplan-0.1.0+torch2.14 torch-2.14.0\n" in result.stdout, result.stderr
    result = pip_install(environment, torches, *extra, of_all, f"torch=={torch}")
    assert "Would install shardplan-0.1.0+torch2.13\n" in result.stdout, result.stderr


def test_extras_of_a_requirement_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, requires in {
        "one": ["two[fast]", 'never ; extra == "unused"'],
        "two": ['three ; extra == "fast"', "one"],
        "three": [],
    }.items():
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        lines = [f"Requires-Dist: {line}\n" for line in requires]
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1\n{''.join(lines)}")
    monkeypatch.syspath_prepend(tmp_path)
    assert required("one") == {"one", "two", "three"}
