#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/boxes/box.h"
#include "core/columns/plan.h"

namespace shardplan::columns {

/// Columns of `state_dict_metadata`: one entry per key, in order. A kObject entry has no columns.
struct SavedChunks {
  SaveTable table;
  std::vector<std::size_t> begin{0};  // per entry: its first chunk; one more at the end
  std::vector<std::size_t> first;     // per entry: index of its first number
  std::vector<std::int64_t> numbers;  // per chunk: ndim offsets, then ndim sizes

  std::size_t size() const { return begin.size() - 1; }
  std::size_t chunk_count(std::size_t entry) const { return begin[entry + 1] - begin[entry]; }
  std::size_t ndim(std::size_t entry) const { return table.specs.ndim[table.spec[entry]]; }
  /// Returns the offsets of chunk `at` of an entry, followed by its sizes.
  const std::int64_t* chunk(std::size_t entry, std::size_t at) const {
    return numbers.data() + first[entry] + at * 2 * ndim(entry);
  }

  /// Appends an entry. Returns a pointer to the numbers of its chunks, initially zero; valid until
  /// the next push.
  std::int64_t* push(std::uint32_t name, WriteKind kind, std::uint32_t properties,
                     std::span<const std::int64_t> shape, std::size_t chunks) {
    table.name.push_back(name);
    table.spec.push_back(table.specs.push_if_new(kind, properties, shape));
    return extend(chunks, shape.size());
  }

  /// Appends the chunks of the next entry; the caller adds the entry to `table`. Returns a pointer
  /// to the numbers of the chunks, as `push` does.
  std::int64_t* extend(std::size_t chunks, std::size_t dims) {
    begin.push_back(begin.back() + chunks);
    first.push_back(numbers.size());
    numbers.resize(numbers.size() + chunks * 2 * dims);
    return numbers.data() + first.back();
  }

  /// Drops the last entry.
  void pop() {
    numbers.resize(first.back());
    first.pop_back();
    begin.pop_back();
    table.name.pop_back();
    table.spec.pop_back();
  }

  /// Appends every chunk of an entry to `boxes`. Returns false if an end does not fit int64, or if
  /// there are chunks and `boxes` has another number of dims.
  [[nodiscard]] bool append_to(boxes::Boxes& boxes, std::size_t entry) const {
    const std::size_t count = chunk_count(entry);
    const std::size_t dims = ndim(entry);
    if (dims != boxes.ndim()) return count == 0;
    boxes.reserve(boxes.size() + count);
    for (std::size_t at = 0; at < count; ++at) {
      if (!boxes.push(chunk(entry, at), chunk(entry, at) + dims)) return false;
    }
    return true;
  }
};

}  // namespace shardplan::columns
