"""Recognises the format of a file that is not a checkpoint, and suggests what to give instead."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

_HEAD = 1024
_LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_RANK_DATA = re.compile(r"__[0-9]+_[0-9]+\.distcp")
_CONVERT = (
    "to load it with torch.distributed.checkpoint, convert it:  "
    "python -m torch.distributed.checkpoint.format_utils torch_to_dcp FILE DIRECTORY"
)
_GIVE = "give the directory of a checkpoint, which contains a file .metadata"
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x7fELF", "a program or a library"),
    (b"%PDF-", "a PDF document"),
)


def head_of(stream: BinaryIO) -> bytes:
    """Returns the first bytes of a file; empty if they cannot be read."""
    try:
        stream.seek(0)
        return stream.read(_HEAD)
    except (OSError, ValueError):
        return b""


def describe_format(head: bytes, file: str) -> str | None:
    """Describes the format of a file and suggests what to give instead.

    Args:
        head: the first bytes of the file.
        file: the path that the user gave.

    Returns:
        A text that begins with "is"; None for a pickle or an unknown format.
    """
    if not head:
        return f"is empty; {_GIVE}"
    if _RANK_DATA.fullmatch(os.path.basename(file)) or file.endswith(".distcp"):
        folder = os.path.dirname(file) or "."
        return f"is a data file of a checkpoint: give its directory, {folder}"
    if head.startswith(b"PK\x03\x04"):
        if b"data.pkl" in head[:512]:
            return f"is a torch.save file (a zip); {_CONVERT}"
        return f"is a zip archive; {_GIVE}"
    if head.startswith(_LEGACY_MAGIC):
        return f"is a torch.save file in the legacy format (a pickle); {_CONVERT}"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 100_000_000:
        return f"is a safetensors file; {_GIVE}"
    for magic, kind in _KINDS:
        if head.startswith(magic):
            return f"is {kind}; {_GIVE}"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return f"is a WebP image; {_GIVE}"
    if _is_text(head):
        return f"is {'JSON' if head.lstrip()[:1] in b'{[' else 'text'}; {_GIVE}"
    return None


def _is_text(head: bytes) -> bool:
    # The last character may be incomplete.
    text = head.decode("utf-8", "ignore") if len(head) == _HEAD else None
    if text is None:
        try:
            text = head.decode("utf-8")
        except UnicodeDecodeError:
            return False
    elif len(text.encode()) < len(head) - 3:
        return False
    return all(each.isprintable() or each in "\t\n\r\f" for each in text)
