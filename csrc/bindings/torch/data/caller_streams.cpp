#include "bindings/torch/data/caller_streams.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace shardplan::bindings {

void CallerStreams::add(const at::Tensor& tensor) {
  if (!tensor.is_cuda()) return;
  const c10::Device device = tensor.device();
  if (queued_.contains(device.index())) return;
  const c10::impl::VirtualGuardImpl cuda(device.type());
  auto event = std::make_shared<c10::Event>(device.type());
  event->record(cuda.getStream(device));
  queued_.emplace(device.index(), std::move(event));
}

c10::Stream CallerStreams::new_stream(c10::Device device) const {
  const c10::impl::VirtualGuardImpl cuda(device.type());
  const c10::Stream stream = cuda.getStreamFromGlobalPool(device);
  queued_.at(device.index())->block(stream);
  return stream;
}

}  // namespace shardplan::bindings
