"""An extension that transforms the streams of a checkpoint, without a package of its own."""

from __future__ import annotations

import io
from typing import Any

from torch.distributed.checkpoint._extension import StreamTransformExtension


class Inverted(StreamTransformExtension):
    """Stores every byte inverted."""

    @staticmethod
    def from_descriptor(version: str) -> Inverted:
        return Inverted()

    @staticmethod
    def registry_name() -> str:
        return "stream.inverted"

    def get_descriptor(self) -> str:
        return "stream.inverted/1"

    def transform_to(self, output: Any) -> Any:
        class Writer(io.RawIOBase):
            def writable(self) -> bool:
                return True

            def write(self, data: Any) -> int:
                output.write(_inverted(bytes(data)))
                return len(bytes(data))

        return Writer()

    def transform_from(self, input: Any) -> Any:
        return io.BytesIO(_inverted(input.read()))


def _inverted(data: bytes) -> bytes:
    return bytes(byte ^ 255 for byte in data)
