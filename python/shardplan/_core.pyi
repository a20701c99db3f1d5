from collections.abc import Sequence
from typing import final

from typing_extensions import Buffer

@final
class Boxes:
    def __init__(self, ndim: int, offsets: Buffer, sizes: Buffer) -> None: ...
    def __len__(self) -> int: ...
    @property
    def ndim(self) -> int: ...

def local_box(
    shape: Sequence[int],
    mesh_shape: Sequence[int],
    coordinate: Sequence[int],
    placements: Sequence[tuple[str, int, int]],
) -> tuple[list[int], list[int]] | None: ...
def overlap_pairs(saved: Boxes, wanted: Boxes) -> tuple[list[int], list[int]]: ...
def check_boxes(boxes: Boxes, shape: Sequence[int], must_fill: bool) -> str: ...
