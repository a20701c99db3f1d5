#include "bindings/torch/data/tensor_loader.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <numeric>
#include <string_view>

#include "bindings/common/range_source.h"
#include "bindings/torch/data/staging_buffer.h"
#include "bindings/torch/data/target_tensor.h"
#include "bindings/torch/data/tensor_finder.h"
#include "bindings/torch/data/tensor_sink.h"
#include "bindings/torch/state_dict/dtensor_reader.h"
#include "bindings/torch/upstream/item_maker.h"
#include "bindings/torch/upstream/torch_objects.h"
#include "bindings/torch/upstream/types.h"
#include "bindings/torch/wire/path_shapes.h"
#include "core/boxes/box.h"
#include "core/data/load_execution.h"
#include "core/data/shared_targets.h"
#include "core/util/string_table.h"

namespace shardplan::bindings {
namespace {

constexpr const char* kOtherItem = "the item is not a plain ReadItem of a tensor";
constexpr const char* kNoLocation = "the item has no plain location";
constexpr const char* kOtherTarget = "the target is not a plain strided tensor on CPU or CUDA";
constexpr const char* kOtherBox = "the box of the item is not in its target";
constexpr const char* kOtherSlice = "the box of the item is not in the stored tensor";
constexpr const char* kOtherSafetensors =
    "the file is not a plain safetensors file with this tensor";
constexpr const char* kOtherPart = "the part is not a plain tensor that fits its target";

/// Requests of more bytes gain no speed, and fewer of them are under way at the same time.
constexpr std::size_t kMaxRequest = std::size_t{16} << 20;

template <class Value>
std::vector<Value> in_order(const std::vector<std::size_t>& order,
                            const std::vector<Value>& values) {
  std::vector<Value> sorted;
  sorted.reserve(order.size());
  for (const std::size_t at : order) sorted.push_back(values[at]);
  return sorted;
}

/// Location of a stored tensor.
struct Location {
  std::string_view path;
  std::string_view name;
  std::int64_t begin = 0;  // bytes of the part in the file
  std::int64_t length = 0;
};

/// Requests, with what they point into.
class Requests {
 public:
  explicit Requests(const LoadSettings& settings) : settings_(settings) {}

  /// Adds the read of a box into `tensor`. Returns the reason if native code cannot do it.
  const char* add(std::size_t position, const Location& location,
                  std::span<const std::int64_t> offsets, std::span<const std::int64_t> lengths,
                  const at::Tensor& tensor) {
    if (location.begin < 0 || location.length < 0) return kNoLocation;
    if (!std::ranges::equal(lengths, tensor.sizes())) return kOtherBox;
    auto target = target_of(tensor);
    if (!target) return kOtherTarget;
    data::ReadRequest request;
    request.file = paths_.number_of(location.path);
    request.begin = static_cast<std::uint64_t>(location.begin);
    request.length = static_cast<std::uint64_t>(location.length);
    request.offsets = offsets;
    request.lengths = lengths;
    request.dtype = target->dtype;
    request.element_size = target->tensor.itemsize();
    request.target = target->data;
    request.target_strides = {target->tensor.strides().data(), lengths.size()};
    if (settings_.safetensors != nullptr) {
      const auto* entry = settings_.safetensors->find(path_of(location.path), location.name);
      if (entry == nullptr) return kOtherSafetensors;
      if (!boxes::in_bounds(offsets, lengths, entry->tensor.shape)) return kOtherSlice;
      request.begin = entry->begin;
      request.length = entry->tensor.reach;
      request.stored = &entry->tensor;
    }
    requests_.push_back(request);
    targets_.push_back(std::move(*target));
    positions_.push_back(position);
    return nullptr;
  }

  /// Says of which tensor the target of the last request is a box.
  void set_whole_target(const at::Tensor& whole, std::span<const std::int64_t> offsets) {
    const data::ReadRequest& request = requests_.back();
    const auto ndim = static_cast<std::size_t>(whole.dim());
    for (std::size_t dim = 0; dim < ndim; ++dim) {
      if (offsets[dim] == 0 || request.lengths[dim] != whole.size(static_cast<std::int64_t>(dim))) {
        continue;
      }
      // `narrow` does not look at the offset of a dim that is written in full.
      std::vector<std::int64_t>& changed = offsets_.emplace_back(offsets.begin(), offsets.end());
      changed[dim] = 0;
      offsets = changed;
    }
    boxes_.resize(requests_.size());
    boxes_.back() = {reinterpret_cast<std::uint64_t>(whole.const_data_ptr()),
                     whole.itemsize(),
                     {whole.sizes().data(), ndim},
                     {whole.strides().data(), ndim},
                     offsets,
                     request.lengths};
    wholes_.push_back(whole);
  }

  /// Numbers the files in the order in which the plan names them. The next item is in this one.
  void name_file(std::string_view path) { file_ = paths_.number_of(path); }

  /// The location of the next item is not known.
  void name_no_file() { file_ = kNoFile; }

  void leave(std::size_t position, const char* reason) {
    report_.left.push_back({position, file_, reason, {}});
  }

  LoadReport run() {
    for (const TargetTensor& target : targets_) {
      if (target.data != nullptr && !target.tensor.is_inference()) {
        target.tensor.unsafeGetTensorImpl()->bump_version();
      }
    }
    data::LoadResult result = load();
    if (result.error != nullptr) fail(result);
    for (data::UnreadRequest& unread : result.unread) {
      report_.left.push_back({positions_[unread.request], requests_[unread.request].file,
                              kOtherPart, std::move(unread.why)});
    }
    std::ranges::sort(report_.left, {},
                      [](const LeftItem& item) { return std::pair(item.file, item.position); });
    report_.bytes_wanted = result.bytes_wanted;
    report_.bytes_read = result.bytes_read;
    report_.reads = result.reads;
    return std::move(report_);
  }

 private:
  /// Reads all requests. Those whose targets share bytes are read one after another, in upstream's
  /// order, so that the same one is the last.
  data::LoadResult load() {
    const std::vector<std::size_t> shared = data::find_shared(boxes_);
    if (shared.empty()) return load(requests_, 0);
    std::vector<std::size_t> order(requests_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto rest = std::ranges::stable_partition(
        order, [&](std::size_t at) { return !std::ranges::binary_search(shared, at); });
    std::ranges::stable_sort(rest, {}, [&](std::size_t at) { return requests_[at].file; });
    requests_ = in_order(order, requests_);
    targets_ = in_order(order, targets_);
    positions_ = in_order(order, positions_);

    const std::size_t together = requests_.size() - shared.size();
    const std::span<const data::ReadRequest> all(requests_);
    for (const data::ReadRequest& request : all) wanted_all_ += request.bytes_wanted();
    data::LoadResult result = load(all.first(together), 0);
    read_before_ = result.bytes_wanted;
    if (result.error != nullptr && result.failed == together) result.failed = requests_.size();
    for (std::size_t at = together; at < all.size(); ++at) {
      if (result.error != nullptr) {
        result.outcomes.push_back(data::Outcome::kUnreached);
        continue;
      }
      data::LoadResult one = load(all.subspan(at, 1), at);
      result.outcomes.push_back(one.outcomes[0]);
      for (data::UnreadRequest& unread : one.unread) {
        result.unread.push_back({at, std::move(unread.why)});
      }
      result.error = one.error;
      result.failed = one.error == nullptr ? requests_.size() : at;
      result.bytes_wanted += one.bytes_wanted;
      read_before_ = result.bytes_wanted;
      result.bytes_read += one.bytes_read;
      result.reads += one.reads;
    }
    return result;
  }

  /// Reads some requests, which begin at an index.
  data::LoadResult load(std::span<const data::ReadRequest> requests, std::size_t first) {
    const std::span<const TargetTensor> targets(targets_.data() + first, requests.size());
    const std::size_t threads = std::max<std::size_t>(1, settings_.threads);
    const bool is_local = settings_.read_range.is_none();
    // Ranges of files that are not local have the other memory.
    const std::size_t for_sinks = settings_.memory / (is_local ? 2 : 4);
    const std::size_t capacity = staging_buffer_size(for_sinks, threads);
    const bool inference_mode = c10::InferenceMode::is_enabled();
    CallerStreams streams;
    for (const TargetTensor& target : targets) streams.add(target.tensor);
    data::LoadOptions options;
    options.threads = threads;
    options.verify = settings_.verify;
    options.open = [this](std::uint32_t file) {
      return open_source(path_of(paths_[file]), settings_.read_range);
    };
    if (!is_local) {
      options.sizes = data::request_sizes(std::min(settings_.memory / 4, kMaxRequest));
      options.max_in_flight = settings_.memory - for_sinks;
    }
    options.make_sink = [&] {
      return std::make_unique<TensorSink>(targets, streams, capacity, inference_mode);
    };
    options.progress = [this](std::uint64_t done, std::uint64_t wanted) {
      const py::gil_scoped_acquire lock;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (settings_.progress.is_none()) return;
      settings_.progress(read_before_ + done, wanted_all_ != 0 ? wanted_all_ : wanted);
    };
    const py::gil_scoped_release unlocked;
    return data::load(requests, options);
  }

  /// Describes what ended the load, or throws it if it is an exception of a caller or of torch.
  void fail(const data::LoadResult& result) {
    try {
      std::rethrow_exception(result.error);
    } catch (const FailedRange& problem) {
      report_.failure = {position_of(result), {}, 0, problem.exception()};
    } catch (const data::FailedRead& problem) {
      report_.failure = {position_of(result), problem.what(), problem.system_error(), py::none()};
    }
    for (std::size_t at = 0; at < result.outcomes.size(); ++at) {
      if (result.outcomes[at] == data::Outcome::kRead) continue;
      report_.unreached.push_back(positions_[at]);
    }
    std::ranges::sort(report_.unreached);
  }

  std::size_t position_of(const data::LoadResult& result) const {
    return result.failed < positions_.size() ? positions_[result.failed] : 0;
  }

  /// pathlib, which upstream uses, takes an absolute path as it is.
  std::string path_of(std::string_view path) const {
    return (path.starts_with('/') ? "" : settings_.directory) + std::string(path);
  }

  const LoadSettings& settings_;
  std::vector<data::ReadRequest> requests_;
  std::vector<TargetTensor> targets_;
  std::vector<data::TargetBox> boxes_;  // per request; or empty for a single one
  std::vector<at::Tensor> wholes_;      // what `boxes_` points into
  std::deque<std::vector<std::int64_t>> offsets_;
  std::uint64_t read_before_ = 0;  // bytes of requests that are read, and of all; for the progress
  std::uint64_t wanted_all_ = 0;
  std::vector<std::size_t> positions_;
  util::TextTable paths_;
  std::uint32_t file_ = kNoFile;
  LoadReport report_;
};

}  // namespace

std::optional<LoadReport> load_planned(const LoadPlanColumns& plan, const StorageColumns& storage,
                                       const py::object& state_dict, const py::object& lookup,
                                       const LoadSettings& settings) {
  if (dispatch_mode_is_active()) return std::nullopt;
  const at::NoGradGuard no_grad;
  const columns::ReadColumns& rows = plan.rows;
  const columns::StorageRows& locations = storage.rows();
  Requests requests(settings);
  TensorFinder targets(state_dict, lookup);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (rows.kind[row] == columns::ReadKind::kObject) {
      requests.name_no_file();
      requests.leave(row, kOtherItem);
      continue;
    }
    const std::size_t ndim = rows.ndim[row];
    const std::int64_t* numbers = rows.numbers.data() + rows.first[row];
    const auto column = [&](std::size_t index) {
      return std::span<const std::int64_t>(numbers + index * ndim, ndim);
    };
    const py::object& fqn = plan.tables.names[rows.name[row]];
    const auto name = utf8(fqn.ptr());
    const bool is_bytes = rows.kind[row] == columns::ReadKind::kBytes;
    const auto offset = is_bytes ? std::nullopt : std::optional(column(1));
    const auto index =
        is_bytes ? columns::kNoChunkIndex : static_cast<std::int64_t>(rows.saved[row]);
    const auto location = name ? storage.row_of({*name, offset}, index) : std::nullopt;
    if (location) {
      requests.name_file((*locations.paths)[locations.path[*location]]);
    } else {
      requests.name_no_file();
    }
    if (is_bytes) {
      requests.leave(row, "");
      continue;
    }
    const char* reason = kNoLocation;
    if (location) {
      const at::Tensor found =
          targets.find(fqn, column(0), static_cast<std::int64_t>(rows.wanted[row]));
      const at::Tensor target = found.defined() ? narrow(found, column(2), column(4)) : found;
      reason = !found.defined() ? kOtherTarget
               : !target.defined()
                   ? kOtherBox
                   : requests.add(row,
                                  {(*locations.paths)[locations.path[*location]], *name,
                                   locations.begin[*location], locations.length[*location]},
                                  column(3), column(4), target);
      if (reason == nullptr) requests.set_whole_target(found, column(2));
    }
    if (reason != nullptr) requests.leave(row, reason);
  }
  return requests.run();
}

std::optional<LoadReport> load_box(const BoxRequest& box, const py::object& target,
                                   const LoadSettings& settings) {
  if (dispatch_mode_is_active()) return std::nullopt;
  const at::NoGradGuard no_grad;
  Requests requests(settings);
  const char* reason = kOtherTarget;
  if (is_plain_tensor(target.ptr())) {
    reason = requests.add(0, {box.path, box.name, box.begin, box.length}, box.offsets, box.lengths,
                          tensor_in(target.ptr()));
  }
  if (reason != nullptr) requests.leave(0, reason);
  return requests.run();
}

}  // namespace shardplan::bindings
