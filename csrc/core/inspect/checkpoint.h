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

/// The metadata of a checkpoint, to be looked at: what is saved, and where it lies. Nothing in it
/// becomes an object.
class Checkpoint {
 public:
  /// No place: of a chunk that storage_data does not have.
  static constexpr std::uint32_t kNowhere = 0xFFFFFFFF;

  /// Reads a `.metadata`. Throws BadPickle where it is broken, or holds no Metadata.
  explicit Checkpoint(const pickle::Source& source);

  const columns::SavedChunks& chunks() const { return metadata_.chunks; }
  const columns::StorageRows& locations() const { return locations_; }
  const std::vector<std::size_t>& transformed() const { return metadata_.transformed; }
  /// Items of storage_data that say no place.
  std::size_t unreadable_locations() const { return metadata_.unreadable_locations; }

  std::string_view name(std::size_t entry) const { return text(chunks().table.name[entry]); }
  columns::WriteKind kind(std::size_t entry) const {
    return chunks().table.specs.kind[chunks().table.spec[entry]];
  }
  /// As torch names it; empty where it is not known.
  std::string_view dtype(std::size_t entry) const;

  /// The row of locations() of a chunk (numbered through all entries), and of an entry that is no
  /// tensor; or kNowhere.
  std::uint32_t location_of_chunk(std::size_t chunk) const { return of_chunk_[chunk]; }
  std::uint32_t location_of_object(std::size_t entry) const { return of_object_[entry]; }

  /// A row of locations() whose key comes again -> the row that is read instead: a dict keeps the
  /// last value of a key. In the order of the file; such a row is no chunk's and no object's place.
  const std::vector<std::pair<std::uint32_t, std::uint32_t>>& repeated() const { return repeated_; }
  /// Whether a row of locations() is one of those.
  bool is_replaced(std::size_t row) const { return !replaced_.empty() && replaced_[row]; }

  /// What lies at a place: a chunk of an entry, or an entry that is no tensor.
  struct Part {
    std::uint32_t entry = kNowhere;
    std::uint32_t chunk = kNowhere;  // of an entry that is no tensor: kNowhere
  };
  /// A row of locations() -> what lies there.
  std::vector<Part> parts_of_locations() const;

  /// Which entry a chunk (numbered through all entries) is of.
  Part part_of_chunk(std::size_t chunk) const;

  static constexpr std::size_t kMaxRemarks = 64;
  static constexpr std::size_t kLongestRemark = 4096;

  /// What the Metadata says besides, where that is a text or a number: `version`, and what its
  /// storage_meta says (`save_id`), by name. The first kMaxRemarks that are not longer than
  /// kLongestRemark bytes: attributes may share one text.
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
  std::vector<std::string_view> dtypes_;  // a row of properties
  std::vector<std::uint32_t> of_chunk_;
  std::vector<std::uint32_t> of_object_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> repeated_;
  std::vector<bool> replaced_;  // a row of locations(); empty where no key comes twice
};

}  // namespace shardplan::inspect
