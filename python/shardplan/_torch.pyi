from collections.abc import Callable, Iterable
from pickle import UnpicklingError
from typing import Any, final

from torch import Tensor, dtype
from torch.distributed.checkpoint._hf_utils import _HFStorageInfo
from torch.distributed.checkpoint.metadata import (
    STORAGE_TYPES,
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import ReadItem, SavePlan, WriteItem
from torch.distributed.checkpoint.storage import WriteResult

from ._core import Boxes

@final
class SaveColumns:
    """The save plan of a rank, as columns."""
    def __len__(self) -> int: ...
    def items(self) -> list[WriteItem]:
        """Materializes the rows."""

@final
class LoadColumns:
    """The load plan of a rank, as columns."""
    def __len__(self) -> int: ...
    def items(self) -> list[ReadItem]:
        """Materializes the rows."""

@final
class ChunkColumns:
    """The chunks of one tensor, as columns."""
    def __len__(self) -> int: ...
    def items(self) -> list[ChunkStorageMetadata]:
        """Materializes the rows."""

@final
class ReceivedSave:
    """A received save plan. It is decoded at first access."""
    def __init__(self, bytes: bytes, objects: object) -> None: ...
    def __len__(self) -> int: ...
    def items(self) -> list[WriteItem]:
        """Decodes and materializes the rows. Raises UnreadablePlan if the bytes are broken."""
    def mappings(self) -> dict[str, Any]:
        """Decodes the path mappings. Plans may share the dict; do not modify it."""

@final
class ReceivedLoad:
    """A received load plan. It is decoded at first access."""
    def __init__(self, bytes: bytes, objects: object) -> None: ...
    def __len__(self) -> int: ...
    def items(self) -> list[ReadItem]:
        """Decodes and materializes the rows. Raises UnreadablePlan if the bytes are broken."""

def flatten_state_dict(
    state_dict: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Returns the values of nested mappings and lists by name, and the path of each name."""

def copy_state_dict(state_dict: dict[str, Any]) -> dict[str, Any] | None:
    """Copies nested mappings and lists; None if only upstream can flatten a ShardedTensor."""

def save_columns(
    state_dict: dict[str, Any], upstream_items: Callable[[str, object], list[WriteItem]]
) -> SaveColumns:
    """Plans a save. ``upstream_items`` creates the items of unreadable entries."""

def write_items(fqn: str, object: object) -> list[WriteItem] | None:
    """Returns the write items of one entry; None if native code cannot read it."""

def load_columns(
    state_dict: dict[str, Any],
    state_dict_metadata: dict[str, Any],
    strict: bool,
    upstream_items: Callable[..., list[ReadItem]],
) -> LoadColumns:
    """Plans a load. ``upstream_items`` creates the items of unreadable entries."""

def read_columns(fqn: str, chunks: object, local_chunks: object) -> LoadColumns | None:
    """Plans the reads of one tensor; returns None if native code cannot read the chunks."""

def chunks_overlap(a: object, b: object) -> bool | None:
    """Returns whether two chunks overlap; None if native code cannot read them."""

def overlap_of_chunks(saved: object, current: object) -> list[tuple[int, int, int, int]] | None:
    """Returns (dim, offset in saved, offset in current, length) per dim; None if not readable."""

def chunk_in_bounds(size: object, chunk: object) -> bool | None:
    """Returns whether a chunk lies within a tensor; None if native code cannot read it."""

def suspects(state_dict_metadata: dict[str, Any], must_fill: bool) -> list[str]:
    """Returns the keys of tensors that may be invalid, in order."""

def chunk_of(tensor: object) -> ChunkStorageMetadata | None:
    """Returns the only chunk of a tensor on this rank; None if native code cannot read it."""

def chunk_of_dtensor(dtensor: object) -> ChunkStorageMetadata | None:
    """Returns the chunk of a DTensor's local shard; None if native code cannot read it."""

def chunk_of_tensor(tensor: object) -> ChunkStorageMetadata | None:
    """Returns the chunk of a plain tensor; None if native code cannot read it."""

def boxes_of(chunks: object, ndim: int) -> Boxes | None:
    """Returns the boxes of a list of chunks; None if native code cannot read them."""

def writers_of(plans: list[Any], names: list[str]) -> dict[str, list[int]] | None:
    """Returns key -> the rank that writes each chunk; None if a plan was materialized."""

def holders_of(plans: list[Any], names: list[str]) -> dict[str, list[int]] | None:
    """Returns key -> the ranks that have an item of it; None if an item cannot be read."""

def written(plans: list[Any]) -> list[tuple[int, int]] | None:
    """Returns (items, tensor bytes) that each plan writes; None if an item cannot be read."""

def requested(plans: list[Any], element_sizes: dict[str, int]) -> list[tuple[int, int]]:
    """Returns (items, tensor bytes) that each plan reads. ``element_sizes``: key -> bytes."""

def dedup(plans: list[Any], keeper: str) -> list[SaveColumns] | None:
    """Returns the columns of each plan without duplicate items; None if an item is not readable."""

def plan_globally(
    plans: list[Any], fill: Callable[[ChunkColumns], list[ChunkStorageMetadata]]
) -> tuple[list[SaveColumns], dict[str, STORAGE_TYPES]] | None:
    """Returns the global plan and state_dict_metadata, with ``fill(columns)`` as chunk lists."""

def end_collector_pauses() -> None:
    """Re-enables the collector in a forked child whose pausing thread does not exist."""

def fill_chunks(state_dict_metadata: dict[str, Any]) -> None:
    """Replaces lazy chunk lists by plain, materialized lists."""

def same_items(items: object, other: object, every_property: bool) -> bool | None:
    """Returns whether two lists of items are equal; None if an item cannot be read."""

def pack_save(
    items: object, mappings: object, mapped_by: ReceivedSave | None
) -> tuple[bytes, list[WriteItem], bool] | None:
    """Returns (bytes, items sent as objects, whether mappings are encoded); None on fallback."""

def pack_load(items: object) -> tuple[bytes, list[ReadItem]] | None:
    """Returns (bytes, items sent as objects); None on fallback."""

class UnreadablePlan(ValueError):
    """A received plan is broken. It is pickled as a ValueError."""

class UnknownGlobal(UnpicklingError):
    """A metadata file names a global that checkpoint metadata does not use."""

@final
class StorageColumns:
    """The locations of a storage_data, as columns."""
    def __len__(self) -> int: ...
    def columns(self) -> StorageColumns: ...
    def find(self, key: object) -> int | None:
        """Returns the row of a MetadataIndex, -1 if there is none; None for any other key."""
    def location(self, row: int) -> Any:
        """Creates the ``_StorageInfo`` of a row."""
    def pairs(self, made: dict[int, Any]) -> list[tuple[MetadataIndex, Any]]:
        """Materializes all rows. ``made``: row -> existing ``_StorageInfo``."""
    def file_sizes(self) -> dict[str, int]:
        """Returns a dict of relative path -> end of the last data in it, in bytes."""
    def matches(self, row: int, location: object) -> bool:
        """Returns whether a ``_StorageInfo`` equals its row."""

@final
class ReceivedStorage:
    """A received storage_data, or the received write results of a rank."""
    def __init__(self, bytes: bytes) -> None: ...
    def __len__(self) -> int: ...
    def columns(self) -> StorageColumns:
        """Decodes the bytes. Raises ValueError if they are broken."""
    def items(self) -> list[WriteResult]:
        """Decodes and materializes write results. Raises ValueError if the bytes are broken."""

@final
@final
class SavedResults:
    """The write results of a rank."""

    def __len__(self) -> int: ...
    def items(self) -> list[WriteResult]:
        """Materializes the write results."""

class ReceivedMetadata:
    """A received state_dict_metadata."""
    def __init__(self, bytes: bytes, objects: object) -> None: ...
    def entries(
        self, fill: Callable[[ChunkColumns], list[ChunkStorageMetadata]]
    ) -> dict[str, STORAGE_TYPES]:
        """Decodes the dict, with ``fill(columns)`` as chunk lists. Raises ValueError if broken."""

@final
class SavedMetadata:
    """A state_dict_metadata, as columns."""
    @property
    def objects(self) -> list[Any]:
        """Values that native code cannot encode."""

@final
class KeptPlans:
    """A list of SavePlans in a Metadata, with items as columns."""

def kept_plans(plans: list[SavePlan]) -> KeptPlans | None:
    """Returns the columns of a list of SavePlans; None on fallback."""

def write_metadata(
    write: Callable[[bytes], object],
    state: dict[str, Any],
    make_pickler: Callable[[list[Any], bool], Callable[[Any], bytes]],
    property_parts: Callable[[list[TensorProperties]], list[Any]],
) -> None:
    """Writes the pickle of a Metadata with the attributes ``state``.

    A value that is SavedMetadata, StorageColumns or KeptPlans is written as the dict or list that
    it was read from.
    """

def saved_metadata(state_dict_metadata: dict[str, Any]) -> SavedMetadata | None:
    """Returns the columns of a state_dict_metadata; None on fallback."""

def storage_columns(storage_data: dict[Any, Any]) -> StorageColumns | None:
    """Returns the columns of a storage_data; None on fallback."""

def hf_storage_columns(storage_data: dict[Any, Any]) -> StorageColumns | None:
    """Returns the columns of a storage_data of safetensors files; None on fallback."""

def merge_results(results: list[Any], sources: list[Any]) -> StorageColumns | None:
    """Merges all ranks' write results. Raises ValueError, with the rank, if one is broken."""

def load_metadata(
    readinto: Callable[[memoryview], int],
    fill: Callable[[ChunkColumns], list[ChunkStorageMetadata]],
    locations: Callable[[StorageColumns], dict[Any, Any]],
) -> Any:
    """Loads a metadata file. Raises UnpicklingError or UnknownGlobal."""

def pack_saved_metadata(state_dict_metadata: dict[str, Any]) -> tuple[bytes, list[Any]] | None:
    """Returns (bytes, values sent as objects); None on fallback."""

def pack_storage(storage: StorageColumns) -> bytes | None:
    """Returns the encoded bytes; None on fallback."""

def pack_results(results: object, source: object) -> bytes | None:
    """Returns the encoded bytes of a rank's write results; None on fallback."""

@final
class LoadReport:
    """The outcome of a load."""
    @property
    def left(self) -> list[tuple[int, str, str]]:
        """(position, reason, detail) of each item that was not read. Its target is unchanged."""
    @property
    def failure(self) -> tuple[int, str, int, Exception | None] | None:
        """(position, what, errno, exception) of what ended the load, or None."""
    @property
    def unreached(self) -> list[int]:
        """After a failure: the positions that were not read, or not all of them."""
    @property
    def bytes_wanted(self) -> int:
        """Bytes of the boxes."""
    @property
    def bytes_read(self) -> int:
        """Bytes that were read from files."""
    @property
    def reads(self) -> int:
        """Number of reads."""

def dispatch_mode_is_active() -> bool:
    """Returns whether a dispatch mode is active."""

class SavedParts:
    """How torch.save lays out parts with some options."""

    def __init__(
        self, sample: bytes, samples: Callable[[str], Iterable[tuple[Tensor, bytes]]]
    ) -> None:
        """Reads it from a part. Raises ValueError if native code does not write such parts."""

def safetensors_dtypes() -> dict[str, str]:
    """Returns torch's names of the dtypes of safetensors files."""

class TensorWriter:
    """Writes the tensors of a save plan."""

    def __init__(
        self,
        items: list[WriteItem],
        threads: int,
        memory: int,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        """Reads the items. Raises ValueError if native code cannot."""

    def byte_positions(self) -> list[int]:
        """Returns positions of byte entries."""

    def tensor_positions(self, by_size: bool) -> list[int]:
        """Returns positions of tensors. Raises ValueError if a size is unknown."""

    def split(self, files: int) -> list[list[int]]:
        """Returns the positions in each file. Raises ValueError if a size is unknown."""

    def write(
        self,
        file: int | Callable[[memoryview], object],
        offset: int,
        path: str,
        positions: list[int],
        first: int,
        parts: SavedParts,
        tensors: list[Any] | None,
        state_dict: dict[str, Any] | None,
        lookup: Callable[[MetadataIndex], Any] | None,
    ) -> tuple[int, int, tuple[int, int | Exception] | None]:
        """Writes tensors until one that native code cannot write. Returns their number, the end in
        the file, and (index in ``positions``, errno or exception) of a failure or None.

        ``file`` is the descriptor of a local file, or ``write`` of a stream that is at ``offset``.
        """

    def saved_offsets(self, positions: list[int]) -> str:
        """Returns the JSON text of where the box of each tensor begins."""

    def write_safetensors(
        self,
        file: int | Callable[[memoryview], object],
        path: str,
        positions: list[int],
        metadata: list[tuple[str, str]],
        state_dict: dict[str, Any] | None,
        lookup: Callable[[MetadataIndex], Any] | None,
    ) -> tuple[int, tuple[int, int | Exception] | None] | None:
        """Writes a safetensors file. Returns its size, and (index in ``positions``, errno or
        exception) of a failure or None; returns None if the safetensors library has to."""

    def add(self, position: int, path: str, begin: int, length: int) -> None:
        """Adds the location of an item that upstream wrote."""

    def stop(self) -> None:
        """Ends all writes with a RuntimeError."""

    def end_progress(self) -> None:
        """Reports that all have been written."""

    def item_at(self, position: int) -> WriteItem:
        """Returns an item of the plan."""

    def results(self) -> SavedResults:
        """Returns the write results. Called once."""

class SafetensorsHeaders:
    """Headers of local safetensors files, each read once."""

    def __init__(self) -> None: ...

class SafetensorsMetadata:
    """The metadata of a directory of safetensors files."""

    def __init__(self, dtypes: dict[str, dtype]) -> None:
        """``dtypes``: torch's name -> dtype, of those that upstream reads."""
    def add(self, path: str, names: list[str], sharding: dict[str, Any] | None) -> bool:
        """Adds the tensors of a local file. Returns False, and adds nothing, on fallback.

        path: becomes the ``relative_path`` of the locations.
        names: the names of its tensors, in order.
        sharding: the parsed ``DCP_SHARDING_INFO`` of the file, or None.
        """
    @property
    def entries(self) -> dict[str, STORAGE_TYPES]:
        """state_dict_metadata"""
    @property
    def locations(self) -> dict[MetadataIndex, _HFStorageInfo]:
        """storage_data"""

def load_planned(
    items: list[ReadItem],
    storage: StorageColumns,
    state_dict: dict[str, Any],
    lookup: Callable[[MetadataIndex], Any],
    directory: str | bytes,
    threads: int,
    memory: int,
    verify: bool,
    progress: Callable[[int, int], object] | None,
    read_range: Callable[[str, int, int], Any] | None,
    safetensors: SafetensorsHeaders | None,
) -> LoadReport | None:
    """Reads the tensors of a plan into those of a state dict. Returns None on fallback."""

def load_box(
    path: str | bytes,
    name: str,
    begin: int,
    length: int,
    offsets: list[int],
    lengths: list[int],
    target: object,
    threads: int,
    memory: int,
    verify: bool,
    read_range: Callable[[str, int, int], Any] | None,
    safetensors: SafetensorsHeaders | None,
) -> LoadReport | None:
    """Reads a box of a part into a tensor. Returns None on fallback."""

def read_items_at(items: list[ReadItem], positions: list[int]) -> list[ReadItem]:
    """Creates some items of a load plan that is not materialized."""
