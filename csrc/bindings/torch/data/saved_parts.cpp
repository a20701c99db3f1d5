#include "bindings/torch/data/saved_parts.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <utility>

#include "bindings/torch/state_dict/dtensor_reader.h"
#include "bindings/torch/upstream/torch_objects.h"
#include "core/data/crc32.h"

namespace shardplan::bindings {
namespace {

data::PartFormat format_of(const py::bytes& sample) {
  const std::string_view bytes = sample;
  const auto read = [bytes](std::uint64_t offset, char* into, std::size_t count) {
    const std::string_view rest = bytes.substr(std::min<std::size_t>(offset, bytes.size()));
    return rest.copy(into, count);
  };
  auto format = data::PartFormat::of_sample(read, bytes.size());
  if (!format) throw py::value_error("native code does not write parts like this one");
  return std::move(*format);
}

void append_numbers(std::string& key, std::span<const std::int64_t> numbers) {
  key.append(reinterpret_cast<const char*>(numbers.data()), numbers.size_bytes());
}

}  // namespace

SavedParts::SavedParts(const py::bytes& sample, py::object samples)
    : format_(format_of(sample)), samples_(std::move(samples)) {}

bool SavedParts::is_known(const std::string& dtype) {
  if (const auto found = dtypes_.find(dtype); found != dtypes_.end()) return found->second;
  bool equal = true;
  for (const py::handle& pair : samples_(dtype)) {
    const auto [tensor, part] = pair.cast<std::pair<py::object, py::object>>();
    equal = equal && part_of(tensor).equal(part);
  }
  return dtypes_[dtype] = equal;
}

std::optional<data::PartEnds> SavedParts::ends_of(const SavedTensor& tensor) {
  return is_known(tensor.stored.dtype) ? format_.make_ends(tensor.stored) : std::nullopt;
}

const data::PartEnds* EndsCache::find(const SavedTensor& tensor) {
  const data::StoredTensor& stored = tensor.stored;
  const std::array numbers{stored.storage_offset, static_cast<std::int64_t>(stored.storage_size),
                           static_cast<std::int64_t>(stored.shape.size())};
  key_.assign(stored.dtype);
  append_numbers(key_, numbers);
  append_numbers(key_, stored.shape);
  append_numbers(key_, stored.strides);
  const auto found = ends_.find(key_);
  if (found != ends_.end()) return &found->second;
  auto made = parts_.ends_of(tensor);
  return made ? &ends_.emplace(key_, std::move(*made)).first->second : nullptr;
}

void EndsCache::forget_if_many() {
  constexpr std::size_t kMany = 4096;
  if (ends_.size() > kMany) ends_.clear();
}

/// Returns the part of a tensor on the CPU; None if native code does not write such parts.
py::object SavedParts::part_of(const py::object& tensor) const {
  const auto saved =
      is_plain_tensor(tensor.ptr()) ? saved_tensor(tensor_in(tensor.ptr())) : std::nullopt;
  const auto ends = saved ? format_.make_ends(saved->stored) : std::nullopt;
  const bool has_data = saved && (saved->data != nullptr || saved->stored.storage_size == 0);
  if (!ends || !has_data) return py::none();
  const auto size = static_cast<std::size_t>(ends->data_size());
  std::string part = ends->head();
  if (size != 0) part.append(saved->data, size);
  const bool sums = has_checksums() && size != 0;
  ends->append_tail(sums ? data::crc32(saved->data, size) : 0, part);
  return py::bytes(part);
}

}  // namespace shardplan::bindings
