from collections.abc import Callable, Sequence
from typing import TypedDict, final

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
def box(boxes: Boxes, at: int) -> tuple[list[int], list[int]]: ...
def elements(boxes: Boxes) -> int | None: ...
def out_of_bounds(boxes: Boxes, shape: Sequence[int]) -> list[int]: ...
def overlaps(boxes: Boxes, shape: Sequence[int], most: int) -> list[tuple[int, int]]: ...
def holes(
    boxes: Boxes, offsets: Sequence[int], sizes: Sequence[int], most: int
) -> tuple[list[tuple[list[int], list[int]]], bool]: ...
def arrangement(boxes: Boxes) -> tuple[str, list[int], bool]: ...

_Place = tuple[str, int, int, bool]
_Part = tuple[int, int | None]
_Found = tuple[_Part | None, str, _Place]

class _StorageFaults(TypedDict):
    unplaced: list[_Part]
    unclaimed: list[_Found]
    no_file: list[_Found]
    beyond_end: list[_Found]
    shared: list[tuple[_Found, _Found]]
    repeated: list[tuple[_Found, _Found]]

@final
class Checkpoint:
    def __init__(self, readinto: Callable[[memoryview], int]) -> None: ...
    def remarks(self) -> list[tuple[str, str]]: ...
    def entries(self) -> list[tuple[str, str, str, list[int], int]]: ...
    def arrangements(self) -> list[tuple[str, list[int], bool]]: ...
    def boxes(self, entry: int) -> Boxes | None: ...
    def places(self, entry: int) -> list[_Place | None]: ...
    def stored(self) -> list[int]: ...
    def files(self) -> list[tuple[str, int, int, int]]: ...
    @property
    def odd_places(self) -> int: ...
    def unsound(self, must_fill: bool) -> list[int]: ...
    def faults(self, file_sizes: dict[str, int]) -> _StorageFaults: ...
    def reshard(
        self,
        mesh_shape: Sequence[int],
        layouts: Sequence[Sequence[tuple[str, int, int]]],
        layout_of: Sequence[int],
        element_sizes: Sequence[int],
    ) -> list[tuple[int, int, int, int]]: ...
    def reshard_memory(
        self,
        mesh_shape: Sequence[int],
        layouts: Sequence[Sequence[tuple[str, int, int]]],
        layout_of: Sequence[int],
    ) -> int: ...

class _StoredTensor(TypedDict):
    dtype: str
    element_size: int
    shape: list[int]
    strides: list[int]
    storage_offset: int
    storage_key: str
    device: str
    is_parameter: bool
    requires_grad: bool
    big_endian: bool
    storage_begin: int
    storage_size: int
    begin: int
    reach: int

class BadPart(ValueError): ...
class UnreadPart(BadPart): ...

class StoredPart:
    def __init__(self, readinto: Callable[[int, memoryview], int], length: int) -> None: ...
    def members(self) -> list[tuple[str, int, int, int]]: ...
    @property
    def has_checksums(self) -> bool: ...
    def damaged_member(self) -> str | None: ...
    def tensor(self) -> _StoredTensor: ...

class _Simulation(TypedDict):
    ranks: list[tuple[int, int]]
    items: int
    wire_in: int
    wire_out: int
    metadata: int
    stages: list[tuple[str, float]]
    boxes: list[int]
    writers: list[int]

def simulate(
    tensors: Sequence[tuple[str, Sequence[int], str, int, int]],
    mesh_shape: Sequence[int],
    layouts: Sequence[Sequence[tuple[str, int, int]]],
    look_at: int,
) -> _Simulation: ...
def simulation_memory(
    tensors: Sequence[tuple[str, Sequence[int], str, int, int]],
    mesh_shape: Sequence[int],
    layouts: Sequence[Sequence[tuple[str, int, int]]],
) -> int: ...
