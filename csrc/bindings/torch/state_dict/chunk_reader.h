#pragma once

#include <cstddef>
#include <cstdint>

#include "bindings/common/python_object.h"
#include "core/boxes/box.h"

namespace shardplan::bindings {

/// Reading of upstream ChunkStorageMetadata. Only objects of exactly that class, whose offsets and
/// sizes are tuples of ints that fit int64, are read; false means: ask upstream, no Python error is
/// set.

/// Number of dims of a chunk's offsets.
bool read_ndim(PyObject* chunk, std::size_t& ndim);

/// Reads one chunk of `ndim` dims.
bool read_chunk(PyObject* chunk, std::size_t ndim, std::int64_t* offsets, std::int64_t* sizes);

/// Appends every chunk of a plain list, or of a global plan's list that has not been filled.
bool read_chunks(PyObject* list, boxes::Boxes& out);

}  // namespace shardplan::bindings
