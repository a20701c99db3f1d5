#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <map>
#include <memory>

namespace shardplan::bindings {

/// Streams of the thread that calls a load or a save. Copies to and from its tensors wait for the
/// work that is queued there.
class CallerStreams {
 public:
  /// Adds the device of a tensor, unless it is the CPU. Called on the caller's thread.
  void add(const at::Tensor& tensor);

  /// Returns a new stream for copies to or from a device.
  c10::Stream new_stream(c10::Device device) const;

 private:
  std::map<c10::DeviceIndex, std::shared_ptr<c10::Event>> queued_;
};

}  // namespace shardplan::bindings
