#pragma once

#include <cstddef>
#include <cstdint>

#include "bindings/common/python_object.h"
#include "core/boxes/box.h"

namespace shardplan::bindings {

/// The chunks of one tensor as columns: what a chunk list of Metadata is filled from.
class ChunkColumns {
 public:
  virtual ~ChunkColumns() = default;

  virtual std::size_t size() const = 0;

  /// The upstream chunks.
  virtual py::list items() = 0;

  /// Appends every chunk; false where one does not have as many dims, or does not fit int64.
  virtual bool append_to(boxes::Boxes& boxes) const = 0;

  /// Writes every chunk's offsets and sizes, `2 * ndim` numbers; false where one does not have as
  /// many dims.
  virtual bool copy_to(std::size_t ndim, std::int64_t* numbers) const = 0;
};

}  // namespace shardplan::bindings
