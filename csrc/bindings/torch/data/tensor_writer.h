#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/common/python_object.h"
#include "bindings/torch/columns/save_plan.h"
#include "bindings/torch/data/saved_parts.h"
#include "bindings/torch/data/tensor_finder.h"
#include "bindings/torch/metadata/storage_columns.h"

namespace shardplan::bindings {

/// Outcome of `TensorWriter::write`.
struct Written {
  std::size_t count = 0;     // parts that were written
  std::uint64_t offset = 0;  // where the last one ends in the file
  /// The index of the part that failed, and errno or the exception of the stream. Nothing if none
  /// failed.
  std::optional<std::pair<std::size_t, py::object>> failure;
};

/// Writes the tensors of a save plan to files, and keeps the locations of all items. Used with the
/// GIL, which is released while bytes are written.
class TensorWriter {
 public:
  struct Settings {
    std::size_t threads = 1;
    std::size_t memory = std::size_t{64} << 20;  // bytes of buffers for device tensors
    py::object progress;  // called with the bytes written so far and those of all tensors; or None
  };

  /// items: the items of the plan. Throws ValueError if native code cannot read them.
  TensorWriter(const py::object& items, Settings settings);

  /// Returns the positions of byte entries, in the order of the plan.
  std::vector<std::size_t> byte_positions() const;

  /// Returns the positions of tensors: in the order of the plan, or by size (`_item_size`), small
  /// ones first. Throws ValueError if a size is unknown or does not fit int64.
  std::vector<std::size_t> tensor_positions(bool by_size) const;

  /// Distributes the items over files (`_split_by_size_and_type`). Throws as `tensor_positions`.
  std::vector<std::vector<std::size_t>> split(std::size_t files) const;

  /// Writes tensors to a file, one after another. Ends before the first one that native code cannot
  /// write.
  ///
  /// file:      descriptor of a local file, or the function `write` of a stream that is at `offset`
  /// positions: of items of tensors
  /// tensors:   their tensors; or None to find them in `state_dict`
  /// lookup:    see TensorFinder
  Written write(const py::object& file, std::uint64_t offset, std::string_view path,
                const std::vector<std::size_t>& positions, std::size_t first, SavedParts& parts,
                const py::object& tensors, const py::object& state_dict, const py::object& lookup);

  /// Returns where the box of each tensor begins, as the text that upstream stores in a safetensors
  /// file: the JSON object {name: {"saved_offsets": [...]}}.
  std::string saved_offsets(const std::vector<std::size_t>& positions) const;

  /// Writes a safetensors file with all tensors of some positions. Returns nothing, and writes
  /// nothing, if the safetensors library has to: it rejects the tensors, or a tensor or its dtype
  /// is none that native code writes.
  ///
  /// metadata: names and values of "__metadata__"
  /// others:   as in `write`
  std::optional<Written> write_safetensors(
      const py::object& file, std::string_view path, const std::vector<std::size_t>& positions,
      const std::vector<std::pair<std::string, std::string>>& metadata,
      const py::object& state_dict, const py::object& lookup);

  /// Adds the location of an item that upstream wrote.
  void add(std::size_t position, std::string_view path, std::int64_t begin, std::int64_t length);

  /// Ends all writes of other threads, and later ones, with a RuntimeError.
  void stop() { is_stopped_ = true; }

  /// Reports that all tensors have been written.
  void end_progress() const;

  /// Returns the item of a position.
  py::object item_at(std::size_t position);

  /// Returns the write results of all items, in the order in which they were written. Called once,
  /// at the end.
  SavedResults results();

 private:
  std::int64_t element_size_of(std::size_t position) const;  // or kUnknownElementSize
  std::int64_t size_of(std::size_t position) const;
  void add_bytes_wanted(std::size_t position);
  Written write_batch(const data::Output& file, std::uint64_t offset,
                      const std::vector<SavedTensor>& tensors,
                      const std::vector<data::WriteRequest>& requests, bool checksums);

  std::shared_ptr<SavePlanColumns> plan_;
  Settings settings_;
  columns::StorageRows rows_;
  std::shared_ptr<util::TextTable> names_ = std::make_shared<util::TextTable>();
  std::shared_ptr<util::TextTable> paths_ = std::make_shared<util::TextTable>();
  bool is_stopped_ = false;
  std::uint64_t bytes_done_ = 0;    // by earlier batches
  std::uint64_t bytes_wanted_ = 0;  // of all tensors, as far as the plan says
};

}  // namespace shardplan::bindings
