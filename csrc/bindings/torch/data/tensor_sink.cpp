#include "bindings/torch/data/tensor_sink.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>

namespace shardplan::bindings {

TensorSink::TensorSink(std::span<const TargetTensor> targets, const CallerStreams& streams,
                       std::size_t capacity, bool inference_mode)
    : targets_(targets),
      caller_streams_(streams),
      capacity_(capacity),
      inference_mode_(inference_mode) {}

TensorSink::~TensorSink() {
  try {
    finish();
  } catch (const std::exception&) {
    // The device has failed; `finish` has thrown before if the load went on.
  }
}

bool TensorSink::accepts(std::size_t request, std::string_view stored_dtype) const {
  const auto from = scalar_type_of(stored_dtype);
  return from && converts(*from, targets_[request].tensor.scalar_type());
}

char* TensorSink::buffer(std::size_t request) {
  const auto bytes = static_cast<std::int64_t>(capacity_);
  if (targets_[request].tensor.is_cpu()) {
    if (!cpu_buffer_.defined()) cpu_buffer_ = at::empty({bytes}, at::kByte);
    return static_cast<char*>(cpu_buffer_.mutable_data_ptr());
  }
  next_ = (next_ + 1) % pinned_.size();
  Buffer& buffer = pinned_[next_];
  if (!buffer.bytes.defined()) {
    buffer.bytes = at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  }
  if (buffer.copied != nullptr) {
    buffer.copied->synchronize();
    buffer.copied.reset();
  }
  return static_cast<char*>(buffer.bytes.mutable_data_ptr());
}

c10::Stream TensorSink::stream_of(c10::Device device) {
  const auto known = streams_.find(device.index());
  if (known != streams_.end()) return known->second;
  return streams_.emplace(device.index(), caller_streams_.new_stream(device)).first->second;
}

void TensorSink::copy(std::size_t request, std::string_view stored_dtype,
                      const data::BoxPiece& piece) {
  const at::NoGradGuard no_grad;
  const c10::InferenceMode mode(inference_mode_);
  at::Tensor target = targets_[request].tensor.detach();
  for (std::size_t dim = 0; dim < piece.lengths.size(); ++dim) {
    const auto at = static_cast<std::int64_t>(dim);
    if (target.size(at) == piece.lengths[dim]) continue;
    target = target.narrow(at, piece.offsets[dim], piece.lengths[dim]);
  }
  const bool on_cpu = target.is_cpu();
  const at::Tensor& bytes = on_cpu ? cpu_buffer_ : pinned_[next_].bytes;
  at::Tensor elements = bytes.view(*scalar_type_of(stored_dtype));
  std::int64_t count = 1;
  for (const std::int64_t length : piece.lengths) count *= length;
  elements = elements.narrow(0, 0, count).view(piece.lengths);
  if (on_cpu) {
    target.copy_(elements);
    return;
  }
  const c10::Stream stream = stream_of(target.device());
  const c10::StreamGuard guard(stream);
  target.copy_(elements, /*non_blocking=*/true);
  auto copied = std::make_unique<c10::Event>(target.device().type());
  copied->record(stream);
  pinned_[next_].copied = std::move(copied);
}

void TensorSink::finish() {
  for (Buffer& buffer : pinned_) buffer.copied.reset();
  for (const auto& [index, stream] : streams_) stream.synchronize();
}

}  // namespace shardplan::bindings
