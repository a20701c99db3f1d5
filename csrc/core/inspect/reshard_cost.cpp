#include "core/inspect/reshard_cost.h"

#include <algorithm>
#include <bit>
#include <map>
#include <stdexcept>
#include <string>

#include "core/boxes/mesh.h"
#include "core/planning/read_plan.h"
#include "core/util/checked.h"

namespace shardplan::inspect {
namespace {

using Numbers = std::vector<std::int64_t>;
using Files = std::vector<std::uint64_t>;  // one bit per file

void add(std::int64_t number, std::int64_t& sum) {
  if (!util::checked_add(sum, number, sum)) throw std::invalid_argument("bytes do not fit int64");
}

std::int64_t bytes_of(std::span<const std::int64_t> sizes, std::int64_t element_size) {
  std::int64_t bytes = element_size;
  for (const std::int64_t size : sizes) {
    if (!util::checked_mul(bytes, size, bytes))
      throw std::invalid_argument("bytes do not fit int64");
  }
  return bytes;
}

/// Numbers the files of a checkpoint from zero.
std::vector<std::uint32_t> file_numbers(const columns::StorageRows& locations, std::size_t& count) {
  std::vector<std::uint32_t> numbers(locations.paths->size(), Checkpoint::kNowhere);
  count = 0;
  for (const std::uint32_t path : locations.path) {
    if (numbers[path] == Checkpoint::kNowhere) {
      numbers[path] = static_cast<std::uint32_t>(count++);
    }
  }
  return numbers;
}

/// The key of a layout in a map.
Numbers key_of(const std::vector<boxes::Placement>& layout) {
  Numbers key;
  for (const boxes::Placement& placement : layout) {
    const bool replicated = placement.kind == boxes::Placement::Kind::kReplicate;
    key.insert(key.end(), {static_cast<std::int64_t>(placement.kind),
                           replicated ? 0 : placement.dim, placement.split_factor});
  }
  return key;
}

/// The reads of the ranks that hold the same boxes, for the entries of one layout.
struct Group {
  Numbers coordinate;
  RankCost cost;
  Files files;
};

/// The ranks of a layout, grouped by their coordinates on the mesh dims that it shards. Ranks of
/// one group hold the same boxes.
class Groups {
 public:
  Groups(std::span<const std::int64_t> mesh_shape, std::vector<boxes::Placement> placements,
         std::size_t words, const util::Pulse& pulse)
      : mesh_shape_(mesh_shape), placements_(std::move(placements)) {
    boxes::for_each_coordinate(mesh_shape, [&](const Numbers& coordinate) {
      pulse.beat();
      Numbers same = coordinate;
      for (std::size_t dim = 0; dim < same.size(); ++dim) {
        if (placements_[dim].kind == boxes::Placement::Kind::kReplicate) same[dim] = 0;
      }
      const auto [known, is_new] = by_coordinate_.try_emplace(same, groups_.size());
      if (is_new) groups_.push_back({same, {}, Files(words)});
      of_rank_.push_back(known->second);
    });
  }

  std::vector<Group>& all() { return groups_; }
  const Group& of_rank(std::size_t rank) const { return groups_[of_rank_[rank]]; }

  /// Returns the box of a tensor that each group holds.
  boxes::Boxes boxes(std::span<const std::int64_t> shape, const util::Pulse& pulse) const {
    boxes::Boxes wanted(shape.size());
    Numbers numbers(2 * shape.size());
    for (const Group& group : groups_) {
      pulse.beat();
      if (!boxes::local_box(shape, mesh_shape_, group.coordinate, placements_, numbers.data(),
                            numbers.data() + shape.size()) ||
          !wanted.push(numbers.data(), numbers.data() + shape.size())) {
        throw std::invalid_argument("a tensor cannot be laid out so");
      }
    }
    return wanted;
  }

 private:
  std::span<const std::int64_t> mesh_shape_;
  std::vector<boxes::Placement> placements_;
  std::map<Numbers, std::size_t> by_coordinate_;
  std::vector<Group> groups_;
  std::vector<std::size_t> of_rank_;
};

class Costs {
 public:
  Costs(const Checkpoint& checkpoint, std::span<const std::int64_t> mesh_shape,
        const util::Pulse& pulse)
      : checkpoint_(checkpoint),
        pulse_(pulse),
        mesh_shape_(mesh_shape),
        file_of_(file_numbers(checkpoint.locations(), files_)),
        words_((files_ + 63) / 64) {}

  void add_tensor(std::size_t entry, const std::vector<boxes::Placement>& layout,
                  std::int64_t element_size) {
    const columns::SavedChunks& saved = checkpoint_.chunks();
    const auto shape = saved.table.specs.shape(saved.table.spec[entry]);
    Groups& groups = groups_of(boxes::fitted(layout, shape.size()));
    boxes::Boxes boxes(shape.size());
    if (!saved.append_to(boxes, entry)) {
      throw std::invalid_argument("a box of " + std::string(checkpoint_.name(entry)) +
                                  " ends beyond int64");
    }
    const boxes::Boxes wanted = groups.boxes(shape, pulse_);
    rows_.truncate(0);
    rows_.numbers.clear();
    if (!planning::append_reads(0, boxes, wanted, rows_)) {
      throw std::invalid_argument("an overlap does not fit int64");
    }
    Numbers sizes(shape.size());
    for (std::size_t at = 0; at < wanted.size(); ++at) {
      pulse_.beat();
      for (std::size_t dim = 0; dim < sizes.size(); ++dim) {
        sizes[dim] = wanted.end(at, dim) - wanted.start(at, dim);
      }
      add(bytes_of(sizes, element_size), groups.all()[at].cost.wanted);
    }
    for (std::size_t row = 0; row < rows_.size(); ++row) {
      pulse_.beat();
      const std::size_t chunk = rows_.saved[row];
      Group& group = groups.all()[rows_.wanted[row]];
      const std::uint32_t location = checkpoint_.location_of_chunk(saved.begin[entry] + chunk);
      if (location == Checkpoint::kNowhere) {
        add(bytes_of({saved.chunk(entry, chunk) + sizes.size(), sizes.size()}, element_size),
            group.cost.read);
        ++group.cost.requests;
      } else {
        open(group, location);
      }
    }
  }

  void add_object(std::size_t entry) {
    const std::uint32_t location = checkpoint_.location_of_object(entry);
    if (location == Checkpoint::kNowhere) return;
    Groups& everyone = groups_of(std::vector<boxes::Placement>(mesh_shape_.size()));
    open(everyone.all()[0], location);
    add(checkpoint_.locations().length[location], everyone.all()[0].cost.wanted);
  }

  std::vector<RankCost> of_ranks() const {
    std::vector<RankCost> costs(boxes::rank_count(mesh_shape_));
    for (std::size_t rank = 0; rank < costs.size(); ++rank) {
      pulse_.check();
      Files files(words_);
      for (const auto& [layout, groups] : layouts_) {
        const Group& group = groups.of_rank(rank);
        add(group.cost.wanted, costs[rank].wanted);
        add(group.cost.read, costs[rank].read);
        costs[rank].requests += group.cost.requests;
        for (std::size_t word = 0; word < words_; ++word) files[word] |= group.files[word];
      }
      for (const std::uint64_t word : files) costs[rank].files += std::popcount(word);
    }
    return costs;
  }

 private:
  Groups& groups_of(const std::vector<boxes::Placement>& layout) {
    const Numbers key = key_of(layout);
    const auto known = layouts_.find(key);
    if (known != layouts_.end()) return known->second;
    return layouts_.try_emplace(key, mesh_shape_, layout, words_, pulse_).first->second;
  }

  void open(Group& group, std::uint32_t location) {
    const columns::StorageRows& locations = checkpoint_.locations();
    add(locations.length[location], group.cost.read);
    ++group.cost.requests;
    const std::uint32_t file = file_of_[locations.path[location]];
    group.files[file / 64] |= std::uint64_t{1} << (file % 64);
  }

  const Checkpoint& checkpoint_;
  const util::Pulse& pulse_;
  std::span<const std::int64_t> mesh_shape_;
  std::size_t files_ = 0;
  std::vector<std::uint32_t> file_of_;
  std::size_t words_;
  std::map<std::vector<std::int64_t>, Groups> layouts_;
  columns::ReadColumns rows_;
};

}  // namespace

void check_layouts(const Checkpoint& checkpoint, std::span<const std::int64_t> mesh_shape,
                   std::span<const std::vector<boxes::Placement>> layouts,
                   std::span<const std::uint32_t> layout_of) {
  boxes::rank_count(mesh_shape);
  if (layout_of.size() != checkpoint.chunks().size()) {
    throw std::invalid_argument("there is one layout an entry");
  }
  for (const std::vector<boxes::Placement>& layout : layouts) {
    if (layout.size() != mesh_shape.size()) {
      throw std::invalid_argument("a layout has one placement a dim of the mesh");
    }
  }
  for (std::size_t entry = 0; entry < layout_of.size(); ++entry) {
    if (columns::writes_tensor(checkpoint.kind(entry)) && layout_of[entry] >= layouts.size()) {
      throw std::invalid_argument("no such layout");
    }
  }
}

std::vector<RankCost> reshard_cost(const Checkpoint& checkpoint,
                                   std::span<const std::int64_t> mesh_shape,
                                   std::span<const std::vector<boxes::Placement>> layouts,
                                   std::span<const std::uint32_t> layout_of,
                                   std::span<const std::int64_t> element_sizes,
                                   const util::Pulse& pulse) {
  const std::size_t entries = checkpoint.chunks().size();
  if (element_sizes.size() != entries) {
    throw std::invalid_argument("there is one element size an entry");
  }
  check_layouts(checkpoint, mesh_shape, layouts, layout_of);
  Costs costs(checkpoint, mesh_shape, pulse);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    pulse.check();
    if (columns::writes_tensor(checkpoint.kind(entry))) {
      costs.add_tensor(entry, layouts[layout_of[entry]], element_sizes[entry]);
    } else {
      costs.add_object(entry);
    }
  }
  return costs.of_ranks();
}

std::uint64_t reshard_memory(const Checkpoint& checkpoint, std::span<const std::int64_t> mesh_shape,
                             std::span<const std::vector<boxes::Placement>> layouts,
                             std::span<const std::uint32_t> layout_of) {
  check_layouts(checkpoint, mesh_shape, layouts, layout_of);
  // Bytes of memory: of a rank, of a rank in a layout, of a group beside the bits of its files, and
  // of a read beside its numbers.
  constexpr double kRank = 500;
  constexpr double kOfLayout = 16;
  constexpr double kGroup = 250;
  constexpr double kRead = 60;
  const columns::SavedChunks& saved = checkpoint.chunks();
  const auto ranks = static_cast<double>(boxes::rank_count(mesh_shape));
  std::size_t files = 0;
  file_numbers(checkpoint.locations(), files);
  const double group =
      kGroup + static_cast<double>(files) / 8 + 16 * static_cast<double>(mesh_shape.size());
  std::map<Numbers, double> known;  // number of groups per layout
  double most = 0;                  // of one tensor
  double all = ranks * kRank;
  for (std::size_t entry = 0; entry < saved.size(); ++entry) {
    const std::size_t ndim = saved.ndim(entry);
    const auto layout = columns::writes_tensor(checkpoint.kind(entry))
                            ? boxes::fitted(layouts[layout_of[entry]], ndim)
                            : std::vector<boxes::Placement>(mesh_shape.size());
    const auto [groups, is_new] = known.try_emplace(key_of(layout), 1);
    if (is_new) {
      for (std::size_t dim = 0; dim < layout.size(); ++dim) {
        if (layout[dim].kind == boxes::Placement::Kind::kReplicate) continue;
        groups->second *= static_cast<double>(mesh_shape[dim]);
      }
      all += ranks * kOfLayout + groups->second * group;
    }
    const double boxes = groups->second + static_cast<double>(saved.chunk_count(entry));
    // The saved and wanted boxes, a tree of the saved ones, and at least one read per box.
    most = std::max(most, boxes * (kRead + 1.5 * 88 * static_cast<double>(ndim)));
  }
  constexpr double kMost = 9e18;
  return static_cast<std::uint64_t>(std::min(kMost, all + most));
}

}  // namespace shardplan::inspect
