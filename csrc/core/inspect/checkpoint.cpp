#include "core/inspect/checkpoint.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace shardplan::inspect {
namespace {

using Tag = pickle::Tag;

/// Returns the dtype of a TensorProperties, whose state is a tuple that begins with it.
std::string_view dtype_of(const pickle::Values& values, pickle::Value properties) {
  const pickle::Values::Object& object = values.objects[properties.at()];
  if (!object.built || object.state.tag() != Tag::kTuple) return {};
  const std::optional<pickle::Value> first = values.front(object.state);
  if (!first || first->tag() != Tag::kGlobal) return {};
  const pickle::Global& global = values.globals[first->at()];
  return global.module == "torch" ? std::string_view(global.name) : std::string_view();
}

}  // namespace

Checkpoint::Checkpoint(const pickle::Source& source) : pickle_(pickle::read_pickle(source)) {
  texts_ = std::make_shared<const util::TextTable>(std::move(pickle_.values.texts));
  auto read = metadata::read_pickled_metadata(pickle_, texts_, metadata::Purpose::kInspect);
  if (!read) throw pickle::BadPickle("has no Metadata of a checkpoint");
  if (!read->has_chunks)
    throw pickle::BadPickle("has a state_dict_metadata whose keys are not strings");
  locations_.names = texts_;
  locations_.paths = texts_;
  if (read->storage) locations_ = std::move(*read->storage);
  metadata_ = std::move(*read);
  read_dtypes();
  find_locations();
}

void Checkpoint::read_dtypes() {
  for (const pickle::Value properties : metadata_.properties) {
    dtypes_.push_back(dtype_of(pickle_.values, properties));
  }
}

std::string_view Checkpoint::dtype(std::size_t entry) const {
  if (!columns::writes_tensor(kind(entry))) return {};
  return dtypes_[chunks().table.specs.properties[chunks().table.spec[entry]]];
}

/// Returns, for each row of locations(), the last row with the same key, which is the one that a
/// dict keeps. Returns nothing if no key occurs twice. The chunk index does not belong to the key.
std::vector<std::uint32_t> Checkpoint::last_of_keys(const columns::StorageIndex& index) {
  if (index.unique()) return {};
  std::vector<std::uint32_t> first(locations().size());
  std::vector<std::uint32_t> last(locations().size());
  for (std::uint32_t row = 0; row < first.size(); ++row) {
    const auto found =
        index.find(locations().name[row], locations().key(row).offset, columns::kNoChunkIndex);
    first[row] = static_cast<std::uint32_t>(found.value_or(row));
    last[first[row]] = row;
  }
  replaced_.resize(first.size());
  for (std::uint32_t row = 0; row < first.size(); ++row) {
    last[row] = last[first[row]];
    if (last[row] == row) continue;
    replaced_[row] = true;
    repeated_.emplace_back(row, last[row]);
  }
  return last;
}

void Checkpoint::find_locations() {
  const columns::StorageIndex index(locations());
  const std::vector<std::uint32_t> last = last_of_keys(index);
  const auto find = [&](std::uint32_t name, columns::StorageIndex::Offset offset,
                        std::size_t chunk_index) {
    const auto row = index.find(name, offset, static_cast<std::int64_t>(chunk_index));
    if (!row) return kNowhere;
    return last.empty() ? static_cast<std::uint32_t>(*row) : last[*row];
  };
  const columns::SavedChunks& saved = chunks();
  of_chunk_.reserve(saved.begin.back());
  of_object_.assign(saved.size(), kNowhere);
  for (std::size_t entry = 0; entry < saved.size(); ++entry) {
    if (!columns::writes_tensor(kind(entry))) {
      of_object_[entry] = find(saved.table.name[entry], std::nullopt, 0);
    }
    const std::size_t ndim = saved.ndim(entry);
    for (std::size_t at = 0; at < saved.chunk_count(entry); ++at) {
      of_chunk_.push_back(
          find(saved.table.name[entry], std::span(saved.chunk(entry, at), ndim), at));
    }
  }
}

std::vector<Checkpoint::Part> Checkpoint::parts_of_locations() const {
  std::vector<Part> parts(locations().size());
  const columns::SavedChunks& saved = chunks();
  for (std::uint32_t entry = 0; entry < saved.size(); ++entry) {
    if (of_object_[entry] != kNowhere) parts[of_object_[entry]] = {entry, kNowhere};
    for (std::uint32_t at = 0; at < saved.chunk_count(entry); ++at) {
      const std::uint32_t row = of_chunk_[saved.begin[entry] + at];
      if (row != kNowhere) parts[row] = {entry, at};
    }
  }
  return parts;
}

Checkpoint::Part Checkpoint::part_of_chunk(std::size_t chunk) const {
  const auto after = std::ranges::upper_bound(chunks().begin, chunk);
  const auto entry = static_cast<std::size_t>(after - chunks().begin.begin()) - 1;
  return {static_cast<std::uint32_t>(entry),
          static_cast<std::uint32_t>(chunk - chunks().begin[entry])};
}

std::vector<std::pair<std::string, std::string>> Checkpoint::remarks() const {
  std::vector<std::pair<std::string, std::string>> said;
  const auto add = [&](pickle::Value name, pickle::Value value) {
    if (said.size() == kMaxRemarks || text(name.at()).size() > kLongestRemark) return;
    if (value.tag() == Tag::kText && text(value.at()).size() <= kLongestRemark) {
      said.emplace_back(text(name.at()), text(value.at()));
    } else if (value.tag() == Tag::kInt) {
      said.emplace_back(text(name.at()), std::to_string(value.number()));
    }
  };
  for (const auto& [name, value] : metadata_.attributes) {
    add(name, value);
    if (text(name.at()) != "storage_meta") continue;
    const auto of_storage = metadata::attributes_of(pickle_.values, value);
    if (!of_storage) continue;
    for (const auto& [key, attribute] : *of_storage) add(key, attribute);
  }
  return said;
}

}  // namespace shardplan::inspect
