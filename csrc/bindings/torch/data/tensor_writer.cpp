#include "bindings/torch/data/tensor_writer.h"

#include <algorithm>
#include <deque>
#include <numeric>
#include <span>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "bindings/torch/data/staging_buffer.h"
#include "bindings/torch/data/stream_output.h"
#include "bindings/torch/upstream/torch_objects.h"
#include "bindings/torch/wire/path_shapes.h"
#include "core/columns/rank_plan.h"
#include "core/data/safetensors_layout.h"
#include "core/util/checked.h"

namespace shardplan::bindings {
namespace {

/// Tensors that are found at once, while other Python threads wait: less than a millisecond.
constexpr std::size_t kBatch = 512;

/// Returns whether the elements are in the storage row by row, from its beginning.
bool is_contiguous(const data::StoredTensor& tensor) {
  std::int64_t stride = 1;
  if (tensor.storage_offset != 0) return tensor.storage_size == 0;
  for (std::size_t dim = tensor.shape.size(); dim-- > 0;) {
    if (tensor.shape[dim] == 0) return true;
    if (tensor.shape[dim] != 1 && tensor.strides[dim] != stride) return tensor.storage_size == 0;
    stride *= tensor.shape[dim];
  }
  return true;
}

}  // namespace

TensorWriter::TensorWriter(const py::object& items, Settings settings)
    : settings_(std::move(settings)) {
  const auto columns = save_columns_of(items);
  plan_ = columns ? up_to_date(columns) : nullptr;
  if (!plan_) throw py::value_error("the items are not a list");
  const columns::SavePlanView plan = plan_->view();
  for (std::size_t position = 0; position < plan.size(); ++position) {
    if (plan.kind(position) == columns::WriteKind::kObject ||
        plan_->rows->is_object(plan.row(position)) || !utf8(plan_->name(position))) {
      throw py::value_error("an item is not a plain WriteItem");
    }
    add_bytes_wanted(position);
  }
}

void TensorWriter::add_bytes_wanted(std::size_t position) {
  const columns::SavePlanView plan = plan_->view();
  if (!columns::writes_tensor(plan.kind(position))) return;
  std::int64_t bytes = element_size_of(position);
  if (bytes == columns::kUnknownElementSize) return;
  const std::size_t ndim = plan.ndim(position);
  for (const std::int64_t length : std::span(plan.numbers(position) + ndim, ndim)) {
    if (length < 0 || !util::checked_mul(bytes, length, bytes)) return;
  }
  bytes_wanted_ += static_cast<std::uint64_t>(bytes);
}

void TensorWriter::end_progress() const {
  if (!settings_.progress.is_none()) settings_.progress(bytes_wanted_, bytes_wanted_);
}

std::vector<std::size_t> TensorWriter::byte_positions() const {
  const columns::SavePlanView plan = plan_->view();
  std::vector<std::size_t> positions;
  for (std::size_t position = 0; position < plan.size(); ++position) {
    if (!columns::writes_tensor(plan.kind(position))) positions.push_back(position);
  }
  return positions;
}

std::int64_t TensorWriter::element_size_of(std::size_t position) const {
  const columns::SavePlanView plan = plan_->view();
  return plan_->table->element_sizes()[plan.table->specs.properties[plan.spec(position)]];
}

std::int64_t TensorWriter::size_of(std::size_t position) const {
  const columns::SavePlanView plan = plan_->view();
  std::int64_t size = element_size_of(position);
  if (size == columns::kUnknownElementSize) throw py::value_error("an item has an unknown size");
  for (const std::int64_t length : plan.shape(position)) {
    if (!util::checked_mul(size, length, size)) {
      throw py::value_error("the size of an item does not fit 64 bits");
    }
  }
  return size;
}

std::vector<std::size_t> TensorWriter::tensor_positions(bool by_size) const {
  const columns::SavePlanView plan = plan_->view();
  std::vector<std::size_t> positions;
  for (std::size_t position = 0; position < plan.size(); ++position) {
    if (columns::writes_tensor(plan.kind(position))) positions.push_back(position);
  }
  if (!by_size) return positions;
  std::vector<std::int64_t> sizes(plan.size());
  for (const std::size_t position : positions) sizes[position] = size_of(position);
  std::ranges::stable_sort(positions, {}, [&](std::size_t position) { return sizes[position]; });
  return positions;
}

std::vector<std::vector<std::size_t>> TensorWriter::split(std::size_t files) const {
  std::vector<std::vector<std::size_t>> buckets(files);
  if (files == 1) {
    buckets[0].resize(plan_->size());
    std::iota(buckets[0].begin(), buckets[0].end(), std::size_t{0});
    return buckets;
  }
  std::vector<std::size_t> tensors = tensor_positions(false);
  std::vector<std::int64_t> sizes(plan_->size());
  for (const std::size_t position : tensors) sizes[position] = size_of(position);
  std::ranges::stable_sort(tensors, std::ranges::greater(),
                           [&](std::size_t position) { return sizes[position]; });
  std::size_t at = 0;
  for (const std::size_t position : byte_positions()) buckets[at++ % files].push_back(position);
  std::vector<std::int64_t> loads(files);
  for (const std::size_t position : tensors) {
    const auto least = std::ranges::min_element(loads);
    buckets[static_cast<std::size_t>(least - loads.begin())].push_back(position);
    if (!util::checked_add(*least, sizes[position], *least)) {
      throw py::value_error("the size of all items does not fit 64 bits");
    }
  }
  return buckets;
}

void TensorWriter::add(std::size_t position, std::string_view path, std::int64_t begin,
                       std::int64_t length) {
  const columns::SavePlanView plan = plan_->view();
  if (position >= plan.size()) throw py::index_error("no such item");
  const std::string_view name = *utf8(plan_->name(position));
  const bool is_tensor = columns::writes_tensor(plan.kind(position));
  const std::size_t ndim = is_tensor ? plan.ndim(position) : 0;
  std::int64_t* numbers =
      rows_.push(names_->number_of(name),
                 is_tensor ? static_cast<std::uint8_t>(ndim) : columns::StorageRows::kNoOffset,
                 is_tensor ? plan.chunk_index(position) : columns::kNoChunkIndex,
                 paths_->number_of(path), begin, length);
  std::copy_n(plan.numbers(position), ndim, numbers);
}

Written TensorWriter::write(const py::object& file, std::uint64_t offset, std::string_view path,
                            const std::vector<std::size_t>& positions, std::size_t first,
                            SavedParts& parts, const py::object& tensors,
                            const py::object& state_dict, const py::object& lookup) {
  const columns::SavePlanView plan = plan_->view();
  const std::unique_ptr<const data::Output> output = output_of(file);
  TensorFinder finder(state_dict, lookup);
  EndsCache cache(parts);
  const auto find = [&](std::size_t at) -> at::Tensor {
    if (!tensors.is_none()) {
      const py::object given = tensors[py::int_(at)];
      return is_plain_tensor(given.ptr()) ? tensor_in(given.ptr()) : at::Tensor();
    }
    const std::size_t position = positions[at];
    return finder.find(py::reinterpret_borrow<py::object>(plan_->name(position)),
                       {plan.numbers(position), plan.ndim(position)}, plan.chunk_index(position));
  };
  Written all{0, offset, std::nullopt};
  for (std::size_t at = first; at < positions.size();) {
    cache.forget_if_many();
    std::vector<SavedTensor> batch;
    std::vector<data::WriteRequest> requests;
    std::uint64_t end = all.offset;
    for (; at < positions.size() && batch.size() < kBatch; ++at) {
      if (positions[at] >= plan.size()) throw py::index_error("no such item");
      auto tensor = saved_tensor(find(at));
      const data::PartEnds* ends = tensor ? cache.find(*tensor) : nullptr;
      if (ends == nullptr) break;
      requests.push_back({ends, end, tensor->data});
      end += ends->size();
      batch.push_back(std::move(*tensor));
    }
    if (batch.empty()) break;
    const bool is_last = batch.size() < kBatch;
    const Written done = write_batch(*output, all.offset, batch, requests, parts.has_checksums());
    if (done.failure) {
      all.failure = {first + all.count + done.failure->first, done.failure->second};
      return all;
    }
    for (const data::WriteRequest& request : requests) {
      add(positions[first + all.count], path, static_cast<std::int64_t>(request.begin),
          static_cast<std::int64_t>(request.ends->size()));
      ++all.count;
    }
    all.offset = end;
    if (is_last) break;
  }
  return all;
}

Written TensorWriter::write_batch(const data::Output& file, std::uint64_t offset,
                                  const std::vector<SavedTensor>& tensors,
                                  const std::vector<data::WriteRequest>& requests, bool checksums) {
  const std::size_t threads = std::max<std::size_t>(1, settings_.threads);
  const std::size_t capacity = staging_buffer_size(settings_.memory, threads);
  CallerStreams streams;
  for (const SavedTensor& tensor : tensors) {
    if (tensor.alias.defined()) streams.add(tensor.alias);
  }
  data::WriteOptions options;
  options.threads = threads;
  options.checksums = checksums;
  options.make_source = [&] { return std::make_unique<TensorSource>(tensors, streams, capacity); };
  options.progress = [this](std::uint64_t done) {
    const py::gil_scoped_acquire lock;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (is_stopped_) throw std::runtime_error("another thread has ended the save");
    if (settings_.progress.is_none()) return;
    settings_.progress(std::min(bytes_done_ + done, bytes_wanted_), bytes_wanted_);
  };
  data::WriteResult result;
  {
    const py::gil_scoped_release unlocked;
    result = data::write(file, requests, options);
  }
  Written written{requests.size(), offset, std::nullopt};
  if (result.error != nullptr) {
    const std::size_t failed = std::min(result.failed, requests.size() - 1);
    try {
      std::rethrow_exception(result.error);
    } catch (const std::system_error& error) {
      written.failure = {failed, py::int_(error.code().value())};
    } catch (const FailedStream& error) {
      written.failure = {failed, error.exception()};
    }
    return written;
  }
  for (const data::WriteRequest& request : requests) bytes_done_ += request.ends->data_size();
  return written;
}

std::string TensorWriter::saved_offsets(const std::vector<std::size_t>& positions) const {
  const columns::SavePlanView plan = plan_->view();
  std::string json = "{";
  for (const std::size_t position : positions) {
    if (position >= plan.size()) throw py::index_error("no such item");
    if (json.size() > 1) json += ", ";
    data::append_json_string(*utf8(plan_->name(position)), true, json);
    json += ": {\"saved_offsets\": [";
    for (const std::int64_t offset : std::span(plan.numbers(position), plan.ndim(position))) {
      if (json.back() != '[') json += ", ";
      json += std::to_string(offset);
    }
    json += "]}";
  }
  return json + "}";
}

std::optional<Written> TensorWriter::write_safetensors(
    const py::object& file, std::string_view path, const std::vector<std::size_t>& positions,
    const std::vector<std::pair<std::string, std::string>>& metadata, const py::object& state_dict,
    const py::object& lookup) {
  const std::unique_ptr<const data::Output> output = output_of(file);
  const columns::SavePlanView plan = plan_->view();
  TensorFinder finder(state_dict, lookup);
  std::vector<SavedTensor> found;
  std::vector<data::SafetensorsItem> items;
  std::unordered_set<const char*> uncopied;  // storages that upstream gives to the library
  found.reserve(positions.size());           // the items point into it
  for (const std::size_t position : positions) {
    if (position >= plan.size()) throw py::index_error("no such item");
    auto tensor = saved_tensor(
        finder.find(py::reinterpret_borrow<py::object>(plan_->name(position)),
                    {plan.numbers(position), plan.ndim(position)}, plan.chunk_index(position)));
    if (!tensor || !is_contiguous(tensor->stored)) return std::nullopt;
    // The library rejects tensors that share their whole storage.
    if (tensor->stored.storage_size != 0 && tensor->data != nullptr &&
        !uncopied.insert(tensor->data).second) {
      return std::nullopt;
    }
    found.push_back(std::move(*tensor));
    const data::StoredTensor& stored = found.back().stored;
    items.push_back(
        {*utf8(plan_->name(position)), stored.dtype, stored.shape, stored.storage_size});
  }
  std::vector<std::pair<std::string_view, std::string_view>> texts;
  for (const auto& [name, value] : metadata) texts.emplace_back(name, value);
  auto layout = data::lay_out_safetensors(items, texts);
  if (!layout) return std::nullopt;

  std::deque<data::PartEnds> ends;
  std::vector<data::WriteRequest> requests;
  std::vector<SavedTensor> tensors;
  ends.push_back(data::PartEnds::plain(std::move(layout->header), 0));
  requests.push_back({&ends.back(), 0, nullptr});
  std::uint64_t end = ends.back().size();
  tensors.emplace_back();  // of the header
  for (const std::size_t at : layout->order) {
    ends.push_back(data::PartEnds::plain({}, found[at].stored.storage_size));
    requests.push_back({&ends.back(), end, found[at].data});
    end += ends.back().size();
    tensors.push_back(found[at]);
  }
  Written done = write_batch(*output, 0, tensors, requests, false);
  if (done.failure) {
    const std::size_t failed = done.failure->first;
    done.failure->first = failed == 0 || layout->order.empty() ? 0 : layout->order[failed - 1];
    return done;
  }
  // All locations are those that upstream records before it writes the file.
  for (std::size_t at = 0; at < positions.size(); ++at) {
    add(positions[at], path, 0, static_cast<std::int64_t>(found[at].stored.storage_size));
  }
  return Written{positions.size(), end, std::nullopt};
}

py::object TensorWriter::item_at(std::size_t position) {
  if (position >= plan_->size()) throw py::index_error("no such item");
  return plan_->item_at(position);
}

SavedResults TensorWriter::results() {
  columns::StorageRows rows = std::exchange(rows_, {});
  rows.names = names_;
  rows.paths = paths_;
  return {std::make_shared<StorageColumns>(std::move(rows))};
}

}  // namespace shardplan::bindings
