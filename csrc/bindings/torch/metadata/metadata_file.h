#pragma once

#include "bindings/common/python_object.h"

namespace shardplan::bindings {

/// Reads a metadata file into upstream's classes.
///
/// readinto(memoryview) -> int: as of a binary file; its exceptions pass through
/// fill(columns):               makes the chunk lists of a Metadata, of ChunkColumns, and the items
/// of
///                              plans that a caller kept in it, of SavePlanColumns
/// locations(StorageColumns):   makes its storage_data
///
/// Throws UnknownGlobal if the file names a global that checkpoint metadata does not use, or
/// BadPickle if it is broken.
py::object load_metadata(const py::object& readinto, const py::object& fill,
                         const py::object& locations);

}  // namespace shardplan::bindings
