#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bindings/common/python_object.h"

namespace shardplan::bindings {

// Reads upstream's ChunkStorageMetadata. Only objects of exactly that class are read. A function
// that returns false leaves the answer to upstream and sets no Python error.

/// Reads the number of dims of a chunk's offsets.
bool read_ndim(PyObject* chunk, std::size_t& ndim);

/// Reads a chunk for planning: its offsets and sizes are any tuples of `ndim` ints that fit int64,
/// and further attributes are ignored.
bool read_chunk(PyObject* chunk, std::size_t ndim, std::int64_t* offsets, std::int64_t* sizes);

/// Reads a chunk for encoding: it has two attributes, each a torch.Size of the same number of plain
/// ints that fit int64, so that an equal object can be made from the numbers. Appends the offsets,
/// then the sizes, to an empty `box`.
bool read_exact_chunk(PyObject* chunk, std::vector<std::int64_t>& box);

}  // namespace shardplan::bindings
