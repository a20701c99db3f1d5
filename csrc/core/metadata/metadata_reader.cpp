#include "core/metadata/metadata_reader.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_set>

#include "core/pickle/input.h"
#include "core/util/text.h"

namespace shardplan::metadata {
namespace {

using Tag = pickle::Tag;
using Pairs = std::vector<std::pair<pickle::Value, pickle::Value>>;

Pairs pairs_of(const pickle::Values& values, pickle::Value dict) {
  Pairs pairs;
  pickle::Value key;
  bool is_key = true;
  values.for_each(dict, [&](pickle::Value value) {
    if (is_key) {
      key = value;
    } else {
      pairs.emplace_back(key, value);
    }
    is_key = !is_key;
  });
  return pairs;
}

class MetadataReader {
 public:
  MetadataReader(const pickle::Pickle& pickle, const std::shared_ptr<const util::TextTable>& texts,
                 Purpose purpose)
      : values_(pickle.values),
        bytes_(pickle.bytes),
        texts_(texts),
        exact_(purpose == Purpose::kObjects),
        chunk_seen_(pickle.values.chunks.size()),
        location_seen_(pickle.values.locations.size()) {}

  bool read(pickle::Value root) {
    const auto attributes = state_of(root, "Metadata");
    if (!attributes) return false;
    out_.attributes = *attributes;
    for (const auto& [name, value] : *attributes) {
      if (is_text(name, "state_dict_metadata")) out_.has_chunks = read_entries(value);
      if (is_text(name, "storage_data")) read_storage(value);
    }
    return true;
  }

  PickledMetadata take() { return std::move(out_); }

 private:
  std::string_view text(pickle::Value value) const { return (*texts_)[value.at()]; }
  bool is_text(pickle::Value value, std::string_view expected) const {
    return value.tag() == Tag::kText && text(value) == expected;
  }

  /// Counts values read, also repeated ones, and throws above the limit.
  void charge(std::size_t values) {
    charged_ += values;
    if (charged_ <= kMaxAnyway || (charged_ - kMaxAnyway) / kMaxAByte <= bytes_) return;
    throw pickle::BadPickle("has so many references to the same values that " +
                            util::grouped(charged_) + " would be read from " +
                            util::grouped(bytes_) + " bytes (the limit is 8 per byte)");
  }

  /// Returns the attributes of an object of class `cls`, or nullopt.
  std::optional<Pairs> state_of(pickle::Value value, std::string_view cls) {
    if (value.tag() != Tag::kObject) return std::nullopt;
    const pickle::Values::Object& object = values_.objects[value.at()];
    if (values_.globals[object.global].name != cls) return std::nullopt;
    if (object.built && object.state.tag() == Tag::kDict) charge(values_.count(object.state));
    return attributes_of(values_, value);
  }

  bool read_entries(pickle::Value dict) {
    if (dict.tag() != Tag::kDict) return false;
    out_.entries = pairs_of(values_, dict);
    std::vector<bool> seen(texts_->size());
    for (const auto& [key, value] : out_.entries) {
      if (key.tag() != Tag::kText || seen[key.at()]) return false;
      seen[key.at()] = true;
      const auto name = static_cast<std::uint32_t>(key.at());
      if (!read_bytes(name, value) && !read_tensor(name, value)) {
        out_.chunks.push(name, columns::WriteKind::kObject, 0, {}, 0);
      }
      if (exact_ && shared_) return false;
    }
    return true;
  }

  /// Returns true if an object has exactly `count` attributes.
  bool has_attributes(pickle::Value value, std::size_t count) const {
    const pickle::Values::Object& object = values_.objects[value.at()];
    return object.built && object.state.tag() == Tag::kDict &&
           !values_.holds_more_than(object.state, 2 * count) &&
           values_.count(object.state) == 2 * count;
  }

  bool read_bytes(std::uint32_t name, pickle::Value value) {
    if (value.tag() != Tag::kObject) return false;
    const pickle::Values::Object& object = values_.objects[value.at()];
    if (object.built || values_.globals[object.global].name != "BytesStorageMetadata") return false;
    out_.chunks.push(name, columns::WriteKind::kBytes, 0, {}, 0);
    return true;
  }

  bool read_tensor(std::uint32_t name, pickle::Value value) {
    if (value.tag() != Tag::kObject || !has_attributes(value, 3)) return false;
    const auto state = state_of(value, "TensorStorageMetadata");
    if (!state || state->size() != 3 || !is_text((*state)[0].first, "properties") ||
        !is_text((*state)[1].first, "size") || !is_text((*state)[2].first, "chunks")) {
      return false;
    }
    const pickle::Value size = (*state)[1].second;
    const pickle::Value list = (*state)[2].second;
    if ((*state)[0].second.tag() != Tag::kObject) return false;
    if (size.tag() != Tag::kSize || list.tag() != Tag::kList) return false;
    const auto shape = values_.size(size);
    // The chunks of a list can be shared, so their numbers are counted for each reference.
    charge(shape.size());
    std::size_t count = 0;
    bool fits = true;
    values_.for_each(list, [&](pickle::Value item) {
      ++count;
      if (!fits || item.tag() != Tag::kChunk) {
        fits = false;
        return;
      }
      charge(1 + 2 * shape.size());
      const pickle::Values::Chunk& chunk = values_.chunks[item.at()];
      fits = chunk.offsets.ndim() == shape.size() && chunk.sizes.ndim() == shape.size();
    });
    if (!fits) return false;
    note_shared_chunks(list);
    if (exact_ && shared_) return false;
    std::int64_t* numbers = out_.chunks.push(name, columns::WriteKind::kShard,
                                             row_of((*state)[0].second), shape, count);
    values_.for_each(list, [&](pickle::Value item) {
      const pickle::Values::Chunk& chunk = values_.chunks[item.at()];
      numbers = std::ranges::copy(values_.size(chunk.offsets), numbers).out;
      numbers = std::ranges::copy(values_.size(chunk.sizes), numbers).out;
    });
    return true;
  }

  /// Sets `shared_` if another tensor has the same list or one of its chunks. Columns cannot
  /// represent that a change to one tensor is a change to the other.
  void note_shared_chunks(pickle::Value list) {
    shared_ = shared_ || !lists_.insert(list.at()).second;
    values_.for_each(list, [&](pickle::Value item) {
      shared_ = shared_ || chunk_seen_[item.at()];
      chunk_seen_[item.at()] = true;
    });
  }

  /// Appends a property row and returns its index. Sets `shared_` if another tensor has the same
  /// TensorProperties.
  std::uint32_t row_of(pickle::Value properties) {
    shared_ = shared_ || !properties_.insert(properties.at()).second;
    out_.properties.push_back(properties);
    return static_cast<std::uint32_t>(out_.properties.size() - 1);
  }

  void read_storage(pickle::Value dict) {
    if (dict.tag() != Tag::kDict) return;
    columns::StorageRows rows;
    rows.names = texts_;
    rows.paths = texts_;
    const std::size_t count = values_.count(dict) / 2;
    rows.reserve(count, 2 * count);
    pickle::Value key;
    bool is_key = true;
    bool plain = true;
    values_.for_each(dict, [&](pickle::Value value) {
      if (is_key) {
        key = value;
      } else {
        plain =
            exact_ ? plain && push_location(rows, key, value) : inspect_location(rows, key, value);
      }
      is_key = !is_key;
    });
    if (!exact_ || (plain && columns::StorageIndex(rows).unique())) out_.storage = std::move(rows);
  }

  bool push_location(columns::StorageRows& rows, pickle::Value key, pickle::Value value) {
    if (key.tag() != Tag::kIndex || value.tag() != Tag::kLocation) return false;
    const pickle::Values::Index& index = values_.indices[key.at()];
    const pickle::Values::Location& location = values_.locations[value.at()];
    if (exact_ && location_seen_[value.at()]) return false;
    location_seen_[value.at()] = true;
    push_row(rows, index, location);
    return true;
  }

  void push_row(columns::StorageRows& rows, const pickle::Values::Index& index,
                const pickle::Values::Location& location) {
    const bool has_offset = index.offset.tag() == Tag::kSize;
    charge(has_offset ? 1 + index.offset.ndim() : 1);
    std::int64_t* numbers = rows.push(
        index.fqn,
        has_offset ? static_cast<std::uint8_t>(index.offset.ndim())
                   : columns::StorageRows::kNoOffset,
        index.chunk_index.tag() == Tag::kInt ? index.chunk_index.number() : columns::kNoChunkIndex,
        location.path, location.offset, location.length);
    if (has_offset) std::ranges::copy(values_.size(index.offset), numbers);
  }

  /// Appends a location, which may have further attributes. Counts unreadable ones.
  bool inspect_location(columns::StorageRows& rows, pickle::Value key, pickle::Value value) {
    if (push_location(rows, key, value)) return true;
    pickle::Values::Location location;
    if (key.tag() != Tag::kIndex || !read_any_location(value, location)) {
      ++out_.unreadable_locations;
      return false;
    }
    out_.transformed.push_back(rows.size());
    push_row(rows, values_.indices[key.at()], location);
    return true;
  }

  std::int64_t number_of(pickle::Value value) const {
    return value.tag() == Tag::kInt ? value.number() : values_.ints[value.at()];
  }

  bool read_any_location(pickle::Value value, pickle::Values::Location& location) {
    const auto state = state_of(value, "_StorageInfo");
    if (!state) return false;
    int found = 0;
    for (const auto& [name, attribute] : *state) {
      const bool number = attribute.tag() == Tag::kInt || attribute.tag() == Tag::kWideInt;
      if (is_text(name, "relative_path") && attribute.tag() == Tag::kText) {
        location.path = static_cast<std::uint32_t>(attribute.at());
      } else if (is_text(name, "offset") && number) {
        location.offset = number_of(attribute);
      } else if (is_text(name, "length") && number) {
        location.length = number_of(attribute);
      } else {
        continue;
      }
      ++found;
    }
    return found == 3;
  }

  static constexpr std::size_t kMaxAByte = 8;
  static constexpr std::size_t kMaxAnyway = std::size_t{1} << 20;

  const pickle::Values& values_;
  std::uint64_t bytes_;
  std::size_t charged_ = 0;
  std::shared_ptr<const util::TextTable> texts_;
  bool exact_;
  std::unordered_set<std::size_t> properties_;
  std::unordered_set<std::size_t> lists_;
  bool shared_ = false;
  std::vector<bool> chunk_seen_;
  std::vector<bool> location_seen_;
  PickledMetadata out_;
};

}  // namespace

std::optional<std::vector<std::pair<pickle::Value, pickle::Value>>> attributes_of(
    const pickle::Values& values, pickle::Value object) {
  if (object.tag() != Tag::kObject) return std::nullopt;
  const pickle::Values::Object& made = values.objects[object.at()];
  if (!made.built || made.state.tag() != Tag::kDict) return std::nullopt;
  Pairs pairs = pairs_of(values, made.state);
  std::vector<std::size_t> names;
  names.reserve(pairs.size());
  for (const auto& [name, value] : pairs) {
    if (name.tag() != Tag::kText) return std::nullopt;
    names.push_back(name.at());
  }
  std::ranges::sort(names);
  if (std::ranges::adjacent_find(names) != names.end()) return std::nullopt;
  return pairs;
}

std::optional<PickledMetadata> read_pickled_metadata(
    const pickle::Pickle& pickle, const std::shared_ptr<const util::TextTable>& texts,
    Purpose purpose) {
  MetadataReader reader(pickle, texts, purpose);
  if (!reader.read(pickle.root)) return std::nullopt;
  return reader.take();
}

}  // namespace shardplan::metadata
