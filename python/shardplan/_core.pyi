from collections.abc import Callable, Sequence
from typing import Any, TypedDict, final

from typing_extensions import Buffer

@final
class Boxes:
    """Boxes of one tensor, stored as int64 columns."""
    def __init__(self, ndim: int, offsets: Buffer, sizes: Buffer) -> None:
        """Takes int64 buffers with ``ndim`` offsets and ``ndim`` sizes per box, box after box."""
    def __len__(self) -> int: ...
    @property
    def ndim(self) -> int: ...

def local_box(
    shape: Sequence[int],
    mesh_shape: Sequence[int],
    coordinate: Sequence[int],
    placements: Sequence[tuple[str, int, int]],
) -> tuple[list[int], list[int]] | None:
    """Returns (sizes, offsets) of a rank's local box; None if there is no closed form for it."""

def overlap_pairs(saved: Boxes, wanted: Boxes) -> tuple[list[int], list[int]]:
    """Returns the indices of overlapping pairs, (wanted, saved), in upstream's order."""

def check_boxes(boxes: Boxes, shape: Sequence[int], must_fill: bool) -> str:
    """Returns the first fault: "none", "out_of_bounds", "overlap", "fill" or "too_large"."""

def box(boxes: Boxes, at: int) -> tuple[list[int], list[int]]:
    """Returns (offsets, sizes) of one box."""

def elements(boxes: Boxes) -> int | None:
    """Returns the sum of the volumes of the boxes; None if it does not fit int64."""

def out_of_bounds(boxes: Boxes, shape: Sequence[int]) -> list[int]:
    """Returns the indices of boxes that are not inside a tensor of this shape."""

def overlaps(boxes: Boxes, shape: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Returns the first ``most`` overlapping pairs, in the order of upstream's messages."""

def holes(
    boxes: Boxes, offsets: Sequence[int], sizes: Sequence[int], most: int
) -> tuple[list[tuple[list[int], list[int]]], bool]:
    """Returns the parts of a region that no box covers, and whether these are all of them."""

def arrangement(boxes: Boxes) -> tuple[str, list[int], bool]:
    """Returns ("none", "whole", "1-D", "grid" or "irregular", parts per dim, is even)."""

_Location = tuple[str, int, int, bool]
_Part = tuple[int, int | None]
_Found = tuple[_Part | None, str, _Location]

class _StorageFaults(TypedDict):
    without_location: list[_Part]
    unclaimed: list[_Found]
    no_file: list[_Found]
    beyond_end: list[_Found]
    shared: list[tuple[_Found, _Found]]
    repeated: list[tuple[_Found, _Found]]

@final
class Checkpoint:
    """The metadata of a checkpoint. Nothing that the file names is imported or called."""
    def __init__(self, readinto: Callable[[memoryview], int]) -> None:
        """Reads a metadata file. Raises ValueError, with the byte offset, if it is not readable."""
    def remarks(self) -> list[tuple[str, str]]:
        """Returns (name, text) pairs of the metadata's own attributes, such as the version."""
    def entries(self) -> list[tuple[str, str, str, list[int], int]]:
        """Returns (name, kind, dtype, shape, number of chunks) of each entry."""
    def arrangements(self) -> list[tuple[str, list[int], bool]]:
        """Returns ``arrangement`` of the boxes of each entry."""
    def boxes(self, entry: int) -> Boxes | None:
        """Returns the boxes of an entry; None if one ends beyond int64."""
    def locations(self, entry: int) -> list[_Location | None]:
        """Returns (file, first byte, bytes, is transformed) of each chunk; None if missing."""
    def stored_bytes(self) -> list[int]:
        """Returns the bytes in files of each entry."""
    def files(self) -> list[tuple[str, int, int, int]]:
        """Returns (file, items, bytes, end of the last item) of each file."""
    @property
    def unreadable_locations(self) -> int:
        """Number of storage_data items with no readable location."""
    def invalid_entries(self, must_fill: bool) -> list[int]:
        """Returns the entries with boxes out of bounds, overlaps or, if ``must_fill``, holes."""
    def faults(self, file_sizes: dict[str, int]) -> _StorageFaults:
        """Returns the faults of locations. ``file_sizes``: file -> bytes."""
    def unsound_parts(
        self,
        parts: Sequence[tuple[int, int | None]],
        path: str | bytes,
        read_range: Callable[[str, int, int], Any] | None,
        threads: int,
        progress: Callable[[int], object],
    ) -> list[int]:
        """Reads parts of one file, sorted by first byte, and returns the positions of those that
        are not known to be sound.

        Args:
            parts: (index of the entry, index of the chunk or None for an object) of each part.
            path: the file.
            read_range: reads a range of a file that is not local, as ``cat_file`` of fsspec; None
                for a local file.
            threads: maximum number of threads that read.
            progress: called about every 50 ms with the number of bytes read so far.

        Raises:
            OSError: the file cannot be opened.
        """
    def reshard(
        self,
        mesh_shape: Sequence[int],
        layouts: Sequence[Sequence[tuple[str, int, int]]],
        layout_of: Sequence[int],
        element_sizes: Sequence[int],
    ) -> list[tuple[int, int, int, int]]:
        """Returns (bytes wanted, bytes read, requests, files) of a load, per rank of the mesh."""
    def schedule(
        self,
        mesh_shape: Sequence[int],
        layouts: Sequence[Sequence[tuple[str, int, int]]],
        layout_of: Sequence[int],
        element_sizes: Sequence[int],
        rank: int,
    ) -> list[tuple[int, int | None, str, int, int, list[int], list[int], int, int, int]]:
        """Returns the parts that a rank of a mesh reads, in the order of the reads.

        Returns:
            (index of the entry, index of the chunk or None, file, first byte of the part, its
            bytes, offsets and lengths of the wanted box in the saved one, bytes wanted, number of
            reads, bytes read) of each part. Reads of several parts at once are counted for the
            first of them.
        """
    def reshard_memory(
        self,
        mesh_shape: Sequence[int],
        layouts: Sequence[Sequence[tuple[str, int, int]]],
        layout_of: Sequence[int],
    ) -> int:
        """Returns the estimated peak memory of ``reshard`` in bytes."""

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

class BadPart(ValueError):
    """The part is damaged."""

class UnreadPart(BadPart):
    """The part is not in a supported format."""

def unequal_parts(
    files: Sequence[str | bytes],
    read_ranges: Sequence[Callable[[str, int, int], Any] | None],
    pairs: Sequence[tuple[int, int, int, int, int, int, Sequence[int], str]],
    threads: int,
    progress: Callable[[int], object],
) -> list[int]:
    """Compares pairs of parts, and returns the positions of those that are not known to be equal.

    Args:
        files: paths of all files.
        read_ranges: for each file: reads a range of it, if it is not local.
        pairs: (file, first byte, bytes, file, first byte, bytes, shape, dtype) of each pair.
        threads: maximum number of threads that read.
        progress: called about every 50 ms with the number of bytes read so far.
    """

@final
class StoredPart:
    """A part of a data file, written by ``torch.save``. Nothing that it names is called."""
    def __init__(self, readinto: Callable[[int, memoryview], int], length: int) -> None:
        """Reads the directory of the zip. ``readinto(offset, buffer)`` returns the bytes read."""
    def members(self) -> list[tuple[str, int, int, int]]:
        """Returns (name, first byte, bytes, CRC-32) of each member, in file order."""
    @property
    def has_checksums(self) -> bool:
        """False if torch was configured to omit checksums."""
    def damaged_member(self) -> str | None:
        """Returns the first member with a checksum mismatch, or None. Reads all data once."""
    def tensor(self) -> _StoredTensor:
        """Returns the stored tensor. Does not verify checksums."""

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
    keeper: str,
) -> _Simulation:
    """Plans a save. Each tensor is (name, shape, dtype, bytes per element, layout index)."""

def simulation_memory(
    tensors: Sequence[tuple[str, Sequence[int], str, int, int]],
    mesh_shape: Sequence[int],
    layouts: Sequence[Sequence[tuple[str, int, int]]],
) -> int:
    """Returns the estimated peak memory of ``simulate`` in bytes."""
