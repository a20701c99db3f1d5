#pragma once

#include <cstddef>
#include <cstdint>

#include "bindings/common/python_object.h"
#include "core/boxes/box.h"

namespace shardplan::bindings {

/// The chunks of one tensor as columns, from which a lazy chunk list of Metadata materializes.
class ChunkColumns {
 public:
  virtual ~ChunkColumns() = default;

  virtual std::size_t size() const = 0;

  /// Returns upstream's chunks.
  virtual py::list items() = 0;

  /// Appends every chunk. Returns false if a chunk has another number of dims than `boxes`, or ends
  /// beyond int64.
  virtual bool append_to(boxes::Boxes& boxes) const = 0;

  /// Writes every chunk's offsets and sizes, `2 * ndim` numbers. Returns false if a chunk has
  /// another number of dims.
  virtual bool copy_to(std::size_t ndim, std::int64_t* numbers) const = 0;
};

/// Appends every chunk of a list, which stays lazy if it is. Returns false, and sets no Python
/// error, if a chunk is not read (see `read_chunk`): upstream has to answer.
bool append_chunks(PyObject* list, boxes::Boxes& out);

}  // namespace shardplan::bindings
