#include "bindings/torch/data/saved_tensor.h"

#include <ATen/ExpandUtils.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>

#include <algorithm>

#include "bindings/torch/data/target_tensor.h"

namespace shardplan::bindings {

std::optional<SavedTensor> saved_tensor(const at::Tensor& tensor) {
  if (!is_plain_strided(tensor)) return std::nullopt;
  const auto dtype = dtype_of(tensor.scalar_type());
  if (!dtype) return std::nullopt;
  const std::size_t bytes = tensor.nbytes();
  if (bytes != 0 && !storage_has_all_elements(tensor)) return std::nullopt;
  SavedTensor saved;
  saved.storage = tensor.storage();
  saved.stored.dtype = *dtype;
  saved.stored.element_size = tensor.itemsize();
  saved.stored.storage_size = bytes;
  saved.stored.shape.assign(tensor.sizes().begin(), tensor.sizes().end());
  saved.stored.strides.assign(tensor.strides().begin(), tensor.strides().end());
  const bool is_compact = tensor.is_non_overlapping_and_dense();
  if (tensor.is_cpu() && tensor.storage().nbytes() == bytes) {
    saved.stored.storage_offset = tensor.storage_offset();
    saved.data = static_cast<const char*>(tensor.storage().data());
  } else if (!is_compact) {
    saved.stored.strides = at::infer_dense_strides(tensor.sizes(), tensor.strides());
  } else if (tensor.is_cpu()) {
    saved.data = static_cast<const char*>(tensor.const_data_ptr());
  }
  if (saved.data == nullptr) {
    const at::NoGradGuard no_grad;
    const c10::InferenceMode mode(true);  // so that inference tensors can be viewed, too
    saved.alias = tensor.detach();
  }
  return saved;
}

TensorSource::TensorSource(std::span<const SavedTensor> tensors, const CallerStreams& streams,
                           std::size_t capacity)
    : tensors_(tensors), caller_streams_(streams), capacity_(capacity) {}

TensorSource::~TensorSource() {
  try {
    for (const auto& [index, stream] : streams_) stream.synchronize();
  } catch (const std::exception&) {
    // The device has failed; `next` has thrown before if the save went on.
  }
}

c10::Stream TensorSource::stream_of(c10::Device device) {
  const auto known = streams_.find(device.index());
  if (known != streams_.end()) return known->second;
  return streams_.emplace(device.index(), caller_streams_.new_stream(device)).first->second;
}

void TensorSource::start(std::size_t request) {
  const at::NoGradGuard no_grad;
  const c10::InferenceMode mode(true);
  at::Tensor tensor = tensors_[request].alias;
  const bool on_cpu = tensor.is_cpu();
  std::optional<c10::StreamGuard> guard;
  if (!on_cpu) guard.emplace(stream_of(tensor.device()));
  if (!tensor.is_non_overlapping_and_dense()) tensor = tensor.clone();
  bytes_ = tensor.as_strided({tensor.numel()}, {1}, tensor.storage_offset()).view(at::kByte);
  done_ = 0;
  if (on_cpu) return;
  for (Buffer& buffer : pinned_) buffer.size = 0;
  copy_next(pinned_[next_]);
}

/// Begins to copy the next bytes from the device.
void TensorSource::copy_next(Buffer& buffer) {
  const std::int64_t count =
      std::min<std::int64_t>(bytes_.numel() - done_, static_cast<std::int64_t>(capacity_));
  buffer.size = static_cast<std::size_t>(count);
  if (count == 0) return;
  if (!buffer.bytes.defined()) {
    buffer.bytes = at::empty({static_cast<std::int64_t>(capacity_)},
                             at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  }
  const c10::Stream stream = stream_of(bytes_.device());
  const c10::StreamGuard guard(stream);
  buffer.bytes.narrow(0, 0, count).copy_(bytes_.narrow(0, done_, count), /*non_blocking=*/true);
  buffer.copied = std::make_unique<c10::Event>(bytes_.device().type());
  buffer.copied->record(stream);
  done_ += count;
}

std::string_view TensorSource::next() {
  const at::NoGradGuard no_grad;
  const c10::InferenceMode mode(true);
  if (bytes_.is_cpu()) {
    return {static_cast<const char*>(bytes_.const_data_ptr()),
            static_cast<std::size_t>(bytes_.numel())};
  }
  Buffer& ready = pinned_[next_];
  next_ = (next_ + 1) % pinned_.size();
  copy_next(pinned_[next_]);
  ready.copied->synchronize();
  return {static_cast<const char*>(ready.bytes.const_data_ptr()), ready.size};
}

}  // namespace shardplan::bindings
