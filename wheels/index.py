"""Writes static package indexes (PEP 503) of wheels for several torch minors.

    python -m wheels.index dist dist/index

``dist/index/simple`` lists all wheels, and ``dist/index/torch2.13/simple`` those for torch 2.13.

pip tries the wheel with the highest version first, and then looks for the torch that it requires.
If it finds no other torch than the installed one, it goes on to the wheel for that one. So the
index of all wheels must be the only index, as with ``--index-url``. Beside an index that has torch,
as with ``--extra-index-url``, pip would replace the installed torch by a later one. Therefore each
torch minor has an index of its own for this use.
"""

from __future__ import annotations

import argparse
import email.parser
import hashlib
import html
import shutil
import urllib.parse
import zipfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

NAME = "shardplan"
PAGE = """<!DOCTYPE html>
<html>
  <head>
    <meta name="pypi:repository-version" content="1.0">
    <title>{title}</title>
  </head>
  <body>
    <h1>{title}</h1>
{links}
  </body>
</html>
"""


def page(title: str, links: list[str]) -> str:
    return PAGE.format(title=html.escape(title), links="\n".join(f"    {a}<br>" for a in links))


def requires_python(wheel: Path) -> str | None:
    """Returns the Python versions that the metadata of a wheel names, or None."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    return email.parser.Parser().parsestr(text, headersonly=True)["Requires-Python"]


def link(wheel: Path, files_url: str) -> str:
    """Returns the anchor of a wheel: its URL with its hash, its name, and the Python it needs."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    # In some object stores, a plain "+" in a URL means a blank.
    url = f"{files_url}{urllib.parse.quote(wheel.name)}#sha256={digest}"
    pythons = requires_python(wheel)
    attribute = f' data-requires-python="{html.escape(pythons)}"' if pythons else ""
    return f'<a href="{html.escape(url)}"{attribute}>{html.escape(wheel.name)}</a>'


def write_index(wheels: Path, out: Path, files_url: str | None = None) -> list[Path]:
    """Writes an index of all wheels of a folder, and one for each torch minor among them.

    Args:
        wheels: a folder of wheels that ``wheels.build`` has made.
        out: the folder of the indexes. Pages that are there are replaced.
        files_url: the URL of the folder that holds the wheels. If None, they are copied beside
            the pages of the index of all wheels.

    Returns:
        The root folder of each index, which is what pip's ``--index-url`` takes.

    Raises:
        ValueError: there are no wheels, or the version of one does not name a torch.
    """
    labels: dict[Path, str] = {}
    for wheel in sorted(wheels.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        if name != NAME or version.local is None or not version.local.startswith("torch"):
            raise ValueError(f"{wheel.name} is not a wheel of {NAME} for one torch, as +torch2.13")
        labels[wheel] = version.local
    if not labels:
        raise ValueError(f"there are no wheels in {wheels}")
    everything = out / "simple"
    write_pages(everything, list(labels), files_url or "")
    if files_url is None:
        for wheel in labels:
            shutil.copy2(wheel, everything / NAME)
    roots = [everything]
    for label in sorted(set(labels.values())):
        root = out / label / "simple"
        chosen = [wheel for wheel in labels if labels[wheel] == label]
        write_pages(root, chosen, files_url or f"../../../simple/{NAME}")
        roots.append(root)
    return roots


def write_pages(root: Path, wheels: list[Path], files_url: str) -> None:
    """Writes the page that lists the projects of an index, and the page of shardplan's wheels."""
    folder = root / NAME
    folder.mkdir(parents=True, exist_ok=True)
    base = files_url and files_url.rstrip("/") + "/"
    (folder / "index.html").write_text(page(NAME, [link(wheel, base) for wheel in wheels]), "utf-8")
    (root / "index.html").write_text(page("Packages", [f'<a href="{NAME}/">{NAME}</a>']), "utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheels", type=Path, help="a folder of wheels")
    parser.add_argument("out", type=Path, help="the folder of the indexes")
    parser.add_argument("--files-url", help="where the wheels are, if not beside the pages")
    options = parser.parse_args(arguments)
    try:
        roots = write_index(options.wheels, options.out, options.files_url)
    except ValueError as error:
        parser.error(str(error))
    for root in roots:
        print(root)


if __name__ == "__main__":
    main()
