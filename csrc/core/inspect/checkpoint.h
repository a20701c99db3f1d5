#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/columns/saved_chunks.h"
#include "core/columns/storage_rows.h"
#include "core/metadata/metadata_reader.h"
#include "core/pickle/machine.h"

namespace shardplan::inspect {

/// The metadata of a checkpoint, read-only: its entries, their chunks and their locations. No
/// Python object is created.
class Checkpoint {
 public:
  /// The location of a chunk that storage_data does not have.
  static constexpr std::uint32_t kNowhere = 0xFFFFFFFF;

  /// Reads a `.metadata` file. Throws BadPickle if it is broken or has no Metadata.
  explicit Checkpoint(const pickle::Source& source);

  const columns::SavedChunks& chunks() const { return metadata_.chunks; }
  const columns::StorageRows& locations() const { return locations_; }
  const std::vector<std::size_t>& transformed() const { return metadata_.transformed; }
  /// Number of storage_data items with no readable location.
  std::size_t unreadable_locations() const { return metadata_.unreadable_locations; }

  std::string_view name(std::size_t entry) const { return text(chunks().table.name[entry]); }
  columns::WriteKind kind(std::size_t entry) const {
    return chunks().table.specs.kind[chunks().table.spec[entry]];
  }
  /// Returns the name of the dtype in torch; empty if it is unknown.
  std::string_view dtype(std::size_t entry) const;

  /// Return the row of locations() of a chunk (numbered across all entries) or of an entry that is
  /// not a tensor; kNowhere if it has none.
  std::uint32_t location_of_chunk(std::size_t chunk) const { return of_chunk_[chunk]; }
  std::uint32_t location_of_object(std::size_t entry) const { return of_object_[entry]; }

  /// Pairs of a row of locations() whose key occurs again later and the row that replaces it: a
  /// dict keeps the last value of a key. In the order of the file. A replaced row is the location
  /// of no chunk and of no object.
  const std::vector<std::pair<std::uint32_t, std::uint32_t>>& repeated() const { return repeated_; }
  /// Returns whether another row replaces this row of locations().
  bool is_replaced(std::size_t row) const { return !replaced_.empty() && replaced_[row]; }

  /// A part of a checkpoint: a chunk of an entry, or an entry that is not a tensor.
  struct Part {
    std::uint32_t entry = kNowhere;
    std::uint32_t chunk = kNowhere;  // kNowhere for an entry that is not a tensor
  };
  /// Returns the part at each row of locations().
  std::vector<Part> parts_of_locations() const;

  /// Returns the part of a chunk, which is numbered across all entries.
  Part part_of_chunk(std::size_t chunk) const;

  static constexpr std::size_t kMaxRemarks = 64;
  static constexpr std::size_t kLongestRemark = 4096;

  /// Returns names and values of the other attributes of the Metadata (`version`) and of its
  /// storage_meta (`save_id`) that are strings or ints: the first kMaxRemarks of at most
  /// kLongestRemark bytes each. The limits exist because many attributes may share one long string.
  std::vector<std::pair<std::string, std::string>> remarks() const;

 private:
  std::string_view text(std::size_t number) const { return (*texts_)[number]; }
  void read_dtypes();
  std::vector<std::uint32_t> last_of_keys(const columns::StorageIndex& index);
  void find_locations();

  pickle::Pickle pickle_;
  std::shared_ptr<const util::TextTable> texts_;
  metadata::PickledMetadata metadata_;
  columns::StorageRows locations_;
  std::vector<std::string_view> dtypes_;  // one per row of properties
  std::vector<std::uint32_t> of_chunk_;
  std::vector<std::uint32_t> of_object_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> repeated_;
  std::vector<bool> replaced_;  // one per row of locations(); empty if no key occurs twice
};

}  // namespace shardplan::inspect
