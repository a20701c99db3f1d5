#include "core/inspect/reshard_schedule.h"

#include <algorithm>
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/boxes/mesh.h"
#include "core/data/read_schedule.h"
#include "core/data/strided_copy.h"
#include "core/inspect/reshard_cost.h"
#include "core/planning/read_plan.h"

namespace shardplan::inspect {
namespace {

using Numbers = std::vector<std::int64_t>;

Numbers coordinate_of(std::span<const std::int64_t> mesh_shape, std::size_t rank) {
  Numbers coordinate(mesh_shape.size());
  auto left = static_cast<std::int64_t>(rank);
  for (std::size_t dim = mesh_shape.size(); dim-- > 0;) {
    coordinate[dim] = left % mesh_shape[dim];
    left /= mesh_shape[dim];
  }
  return coordinate;
}

/// Runs of a part that are visited. The reads of more are estimated, because the metadata may claim
/// any number.
constexpr std::uint64_t kMaxRuns = std::uint64_t{1} << 20;

/// Returns row-major strides, in elements. Throws if they do not fit int64.
Numbers row_major(std::span<const std::int64_t> sizes) {
  Numbers strides(sizes.size());
  std::int64_t elements = 1;
  for (std::size_t dim = sizes.size(); dim-- > 0;) {
    strides[dim] = elements;
    if (__builtin_mul_overflow(elements, std::max<std::int64_t>(1, sizes[dim]), &elements)) {
      throw std::invalid_argument("a tensor has more elements than fit int64");
    }
  }
  return strides;
}

class Schedule {
 public:
  explicit Schedule(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  /// Adds the reads of a rank that wants a box of a tensor.
  void add_tensor(std::size_t entry, const boxes::Boxes& wanted, std::int64_t element_size) {
    const columns::SavedChunks& saved = checkpoint_.chunks();
    const std::size_t ndim = saved.ndim(entry);
    boxes::Boxes boxes(ndim);
    rows_.truncate(0);
    rows_.numbers.clear();
    if (!saved.append_to(boxes, entry) || !planning::append_reads(0, boxes, wanted, rows_)) {
      throw std::invalid_argument("a box of " + std::string(checkpoint_.name(entry)) +
                                  " ends beyond int64");
    }
    Numbers held(ndim);
    for (std::size_t dim = 0; dim < ndim; ++dim)
      held[dim] = wanted.end(0, dim) - wanted.start(0, dim);
    const Numbers& target_strides = target_strides_.emplace_back(row_major(held));
    for (std::size_t row = 0; row < rows_.size(); ++row) {
      const std::size_t chunk = saved.begin[entry] + rows_.saved[row];
      const std::int64_t* numbers = rows_.numbers.data() + rows_.first[row];
      add({static_cast<std::uint32_t>(entry), static_cast<std::uint32_t>(rows_.saved[row])},
          checkpoint_.location_of_chunk(chunk), {numbers + 3 * ndim, numbers + 4 * ndim},
          {numbers + 4 * ndim, numbers + 5 * ndim}, element_size, target_strides);
    }
  }

  void add_object(std::size_t entry) {
    const std::uint32_t location = checkpoint_.location_of_object(entry);
    if (location == Checkpoint::kNowhere) return;
    add({static_cast<std::uint32_t>(entry), Checkpoint::kNowhere}, location, {}, {},
        checkpoint_.locations().length[location], target_strides_.emplace_back());
  }

  std::vector<ScheduledPart> run(const util::Pulse& pulse) {
    const data::ReadSchedule schedule = data::schedule_reads(requests_);
    std::vector<ScheduledPart> all;
    for (const data::BlockTask& block : schedule.blocks) {
      pulse.check();
      for (std::size_t part = block.first; part < block.first + block.count; ++part) {
        const data::PartTask& task = schedule.parts[part];
        for (std::size_t at = task.first; at < task.first + task.count; ++at) {
          ScheduledPart& one = all.emplace_back(std::move(parts_[schedule.order[at]]));
          if (!block.whole) count_reads(requests_[schedule.order[at]], at == task.first, one);
        }
      }
      if (block.whole) {
        const std::size_t parts = schedule.parts[block.first + block.count - 1].first +
                                  schedule.parts[block.first + block.count - 1].count -
                                  schedule.parts[block.first].first;
        all[all.size() - parts].reads = 1;
        all[all.size() - parts].read_bytes = block.length;
      }
    }
    return all;
  }

 private:
  void add(Checkpoint::Part part, std::uint32_t location, Numbers offsets, Numbers lengths,
           std::int64_t element_size, const Numbers& target_strides) {
    if (location == Checkpoint::kNowhere) return;
    const columns::StorageRows& locations = checkpoint_.locations();
    if (locations.begin[location] < 0 || locations.length[location] < 0 || element_size < 0) return;
    data::ReadRequest request;
    request.file = locations.path[location];
    request.begin = static_cast<std::uint64_t>(locations.begin[location]);
    request.length = static_cast<std::uint64_t>(locations.length[location]);
    request.target_strides = target_strides;
    request.element_size = static_cast<std::uint64_t>(element_size);
    ScheduledPart& one =
        parts_.emplace_back(part, location, std::move(offsets), std::move(lengths));
    request.offsets = one.offsets;
    request.lengths = one.lengths;
    one.wanted_bytes = request.bytes_wanted();
    requests_.push_back(request);
  }

  void count_reads(const data::ReadRequest& request, bool is_first, ScheduledPart& one) {
    const data::ReadSizes sizes = data::kFileSizes;
    if (one.part.chunk == Checkpoint::kNowhere) {
      one.reads = 1;
      one.read_bytes = request.length;
      return;
    }
    if (is_first) {
      one.reads = 2;
      one.read_bytes = 2 * std::min(sizes.part_end, request.length);
    }
    const columns::SavedChunks& saved = checkpoint_.chunks();
    const std::size_t ndim = request.lengths.size();
    const std::int64_t* box = saved.chunk(one.part.entry, one.part.chunk) + ndim;
    const Numbers strides = row_major({box, ndim});
    data::ReadRequest whole = request;
    whole.lengths = {box, ndim};
    const std::uint64_t data = whole.bytes_wanted();
    const std::uint64_t beside = request.length > data ? request.length - data : 0;
    const auto copy =
        data::copy_of_box(request.element_size, {request.begin + beside / 2, strides},
                          request.offsets, request.lengths, {0, request.target_strides});
    if (!copy) throw std::invalid_argument("a read does not fit int64");
    if (copy->run == 0) return;
    if (const std::uint64_t runs = copy->bytes() / copy->run; runs > kMaxRuns) {
      const bool joined = copy->dims.back().source_stride - copy->run < sizes.page;
      one.reads += joined ? copy->source_reach() / sizes.max_scattered + 1 : runs;
      one.read_bytes += joined ? copy->source_reach() : copy->bytes();
      return;
    }
    data::for_each_read(*copy, sizes, runs_, [&](const data::Read& read) {
      one.reads += (read.length + sizes.max_read - 1) / sizes.max_read;
      one.read_bytes += read.length;
    });
  }

  const Checkpoint& checkpoint_;
  columns::ReadColumns rows_;
  std::deque<Numbers> target_strides_;  // per tensor; what requests point into
  std::vector<data::ReadRequest> requests_;
  std::vector<ScheduledPart> parts_;  // per request, which points to its numbers, moved or not
  std::vector<data::Run> runs_;
};

}  // namespace

std::vector<ScheduledPart> reshard_schedule(const Checkpoint& checkpoint,
                                            std::span<const std::int64_t> mesh_shape,
                                            std::span<const std::vector<boxes::Placement>> layouts,
                                            std::span<const std::uint32_t> layout_of,
                                            std::span<const std::int64_t> element_sizes,
                                            std::size_t rank, const util::Pulse& pulse) {
  check_layouts(checkpoint, mesh_shape, layouts, layout_of);
  const std::size_t entries = checkpoint.chunks().size();
  if (element_sizes.size() != entries) {
    throw std::invalid_argument("there is one element size an entry");
  }
  if (rank >= boxes::rank_count(mesh_shape)) {
    throw std::invalid_argument("the mesh has no rank " + std::to_string(rank));
  }
  const Numbers coordinate = coordinate_of(mesh_shape, rank);
  Schedule schedule(checkpoint);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    pulse.check();
    if (!columns::writes_tensor(checkpoint.kind(entry))) {
      schedule.add_object(entry);
      continue;
    }
    const columns::SaveTable& table = checkpoint.chunks().table;
    const auto shape = table.specs.shape(table.spec[entry]);
    const auto placements = boxes::fitted(layouts[layout_of[entry]], shape.size());
    Numbers numbers(2 * shape.size());
    boxes::Boxes wanted(shape.size());
    if (!boxes::local_box(shape, mesh_shape, coordinate, placements, numbers.data(),
                          numbers.data() + shape.size()) ||
        !wanted.push(numbers.data(), numbers.data() + shape.size())) {
      throw std::invalid_argument("a tensor cannot be laid out so");
    }
    schedule.add_tensor(entry, wanted, element_sizes[entry]);
  }
  return schedule.run(pulse);
}

}  // namespace shardplan::inspect
