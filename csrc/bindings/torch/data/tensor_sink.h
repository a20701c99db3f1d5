#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "bindings/torch/data/caller_streams.h"
#include "bindings/torch/data/target_tensor.h"
#include "core/data/load_execution.h"

namespace shardplan::bindings {

/// Copies boxes with `Tensor.copy_`: to other dtypes, and to CUDA through pinned memory, while the
/// next box is being read.
class TensorSink final : public data::StagingSink {
 public:
  /// `targets` and `streams` must outlive the sink. `capacity` is the size of each of the two
  /// buffers, in bytes. Constructs on the calling thread or another one; used on one thread.
  TensorSink(std::span<const TargetTensor> targets, const CallerStreams& streams,
             std::size_t capacity, bool inference_mode);
  ~TensorSink() override;

  bool accepts(std::size_t request, std::string_view stored_dtype) const override;
  std::size_t capacity() const override { return capacity_; }
  char* buffer(std::size_t request) override;
  void copy(std::size_t request, std::string_view stored_dtype,
            const data::BoxPiece& piece) override;
  void finish() override;

 private:
  struct Buffer {
    at::Tensor bytes;
    std::unique_ptr<c10::Event> copied;  // null if no copy is under way
  };

  c10::Stream stream_of(c10::Device device);

  std::span<const TargetTensor> targets_;
  const CallerStreams& caller_streams_;
  std::size_t capacity_;
  bool inference_mode_;
  at::Tensor cpu_buffer_;
  std::array<Buffer, 2> pinned_;
  std::size_t next_ = 0;
  std::map<c10::DeviceIndex, c10::Stream> streams_;
};

}  // namespace shardplan::bindings
