#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "bindings/common/python_object.h"
#include "bindings/torch/data/safetensors_headers.h"
#include "bindings/torch/metadata/storage_columns.h"
#include "bindings/torch/state_dict/load_columns.h"

namespace shardplan::bindings {

/// The number of a file that is not known.
inline constexpr std::uint32_t kNoFile = std::numeric_limits<std::uint32_t>::max();

/// Item of a load plan that native code did not read. Its target has not been changed.
struct LeftItem {
  std::size_t position = 0;      // in the plan
  std::uint32_t file = kNoFile;  // its number, in the order in which the plan names the files
  std::string reason;            // of the fallback; empty for items that hold no tensor
  std::string detail;            // what is unusual about the stored part, or empty
};

/// What ended a load.
struct LoadFailure {
  std::size_t position = 0;  // of the item that was being read
  std::string what;          // a predicate without a subject; empty for an exception
  int system_error = 0;      // errno, or 0
  py::object exception;      // raised by `read_range`; or None
};

/// Outcome of a load.
struct LoadReport {
  /// File by file, and in each by position, which is the order in which upstream reads them.
  std::vector<LeftItem> left;
  std::optional<LoadFailure> failure;
  std::vector<std::size_t> unreached;  // positions that were not read, and those read in part
  std::uint64_t bytes_wanted = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t reads = 0;
};

struct LoadSettings {
  std::string directory;  // of the files, with a final slash; empty if paths are absolute
  std::size_t threads = 1;
  std::size_t memory = std::size_t{64} << 20;  // bytes beyond the targets
  bool verify = false;
  py::object progress;  // called with the bytes read so far and those wanted; or None
  /// Function that reads a range of bytes, for files that are not local (see RangeSource); or None.
  py::object read_range;
  /// Headers of the files if these are safetensors files, which have a tensor by its name. Null if
  /// torch.save has written a part for each tensor.
  SafetensorsHeaders* safetensors = nullptr;
};

/// Reads the tensors of a load plan into those of a state dict. Returns nothing under a dispatch
/// mode, which upstream's code has to see.
///
/// lookup(index): `planner.lookup_tensor`, for entries that are neither a Tensor nor a DTensor
std::optional<LoadReport> load_planned(const LoadPlanColumns& plan, const StorageColumns& storage,
                                       const py::object& state_dict, const py::object& lookup,
                                       const LoadSettings& settings);

/// Box of a part, for one target.
struct BoxRequest {
  std::string path;
  std::string name;        // of the tensor
  std::int64_t begin = 0;  // bytes of the part in the file
  std::int64_t length = 0;
  std::vector<std::int64_t> offsets;  // of the box in the stored tensor
  std::vector<std::int64_t> lengths;
};

/// Reads one box into a tensor. Returns nothing under a dispatch mode.
std::optional<LoadReport> load_box(const BoxRequest& box, const py::object& target,
                                   const LoadSettings& settings);

}  // namespace shardplan::bindings
