#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "bindings/torch/data/caller_streams.h"
#include "core/data/tensor_part.h"
#include "core/data/write_execution.h"

namespace shardplan::bindings {

/// A tensor as upstream's writer stores it: on the CPU, in a storage of its own size.
struct SavedTensor {
  // The caller can give his tensor other memory (`tensor.data = ...`) while it is being written.
  c10::Storage storage;       // keeps the memory
  at::Tensor alias;           // of the tensor, to copy from; undefined if `data` is not null
  data::StoredTensor stored;  // as `data::pickle_of_tensor` takes it
  /// The bytes of the storage. Null if they have to be copied from a device, or gathered.
  const char* data = nullptr;
};

/// Returns how a tensor is stored. Returns nothing if upstream has to store it: it is not strided,
/// is of a subclass or lazily conjugated, is on a device other than the CPU and CUDA, or has a
/// dtype that native code does not copy.
std::optional<SavedTensor> saved_tensor(const at::Tensor& tensor);

/// Copies tensors to the CPU: from CUDA through pinned memory, while the bytes before are being
/// written; and gathers the elements of others.
class TensorSource final : public data::StagingSource {
 public:
  /// `tensors` and `streams` must outlive the source. `capacity` is the size of each of the two
  /// buffers, in bytes. Constructs on the calling thread or another one; used on one thread.
  TensorSource(std::span<const SavedTensor> tensors, const CallerStreams& streams,
               std::size_t capacity);
  ~TensorSource() override;

  void start(std::size_t request) override;
  std::string_view next() override;

 private:
  struct Buffer {
    at::Tensor bytes;
    std::unique_ptr<c10::Event> copied;  // null if no copy is under way
    std::size_t size = 0;
  };

  void copy_next(Buffer& buffer);
  c10::Stream stream_of(c10::Device device);

  std::span<const SavedTensor> tensors_;
  const CallerStreams& caller_streams_;
  std::size_t capacity_;
  at::Tensor bytes_;       // of the current request, in one dim
  std::int64_t done_ = 0;  // bytes of it that have been copied, or are being copied
  std::array<Buffer, 2> pinned_;
  std::size_t next_ = 0;
  std::map<c10::DeviceIndex, c10::Stream> streams_;
};

}  // namespace shardplan::bindings
