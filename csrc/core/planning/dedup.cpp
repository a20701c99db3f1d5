#include "core/planning/dedup.h"

#include <algorithm>
#include <bit>
#include <unordered_map>
#include <utility>

#include "core/planning/balance.h"
#include "core/planning/rows_by_name.h"
#include "core/util/checked.h"

namespace shardplan::planning {
namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFF;

/// Returns true if two rows have the same offset. A byte entry has none, which differs from the
/// empty offset of a 0-d tensor.
bool same_offset(const columns::SavePlanView& a, std::size_t at_a, const columns::SavePlanView& b,
                 std::size_t at_b) {
  const std::size_t ndim = a.ndim(at_a);
  return ndim == b.ndim(at_b) &&
         (ndim > 0 ||
          columns::writes_tensor(a.kind(at_a)) == columns::writes_tensor(b.kind(at_b))) &&
         std::equal(a.numbers(at_a), a.numbers(at_a) + ndim, b.numbers(at_b));
}

std::uint32_t hash_offset(const columns::SavePlanView& view, std::size_t position) {
  const std::int64_t* offsets = view.numbers(position);
  const std::size_t ndim = view.ndim(position);
  std::uint64_t mixed = ndim;
  for (std::size_t dim = 0; dim < ndim; ++dim) {
    mixed = (mixed ^ static_cast<std::uint64_t>(offsets[dim])) * 0x9E3779B97F4A7C15ULL;
    mixed ^= mixed >> 29;
  }
  return static_cast<std::uint32_t>(mixed ^ (mixed >> 32));
}

/// Links rows with the same name and offset into chains.
class Duplicates {
 public:
  Duplicates(std::span<const columns::RankPlan> plans, const RowsByName& rows,
             const util::Pulse& pulse)
      : plans_(plans),
        rows_(rows),
        pulse_(pulse),
        next_(rows.size(), kNone),
        leads_(rows.size(), true) {
    hash_rows();
    for (std::size_t name = 0; name < rows.name_count(); ++name) link(name);
    hashes_ = {};
  }

  /// Returns true if no earlier row has the same name and offset.
  bool leads(std::size_t at) const { return leads_[at]; }
  /// Returns the next row with the same name and offset, or kNone.
  std::uint32_t next(std::size_t at) const { return next_[at]; }

 private:
  bool same(std::size_t a, std::size_t b) const {
    return hashes_[a] == hashes_[b] && same_offset(plans_[rows_[a].plan].view, rows_[a].position,
                                                   plans_[rows_[b].plan].view, rows_[b].position);
  }

  /// Hashes plan by plan, in memory order. Name by name, each row would be a cache miss.
  void hash_rows() {
    hashes_.resize(rows_.size());
    std::vector<std::size_t> next = rows_.begins();
    for (const columns::RankPlan& plan : plans_) {
      for (std::size_t position = 0; position < plan.view.size(); ++position) {
        pulse_.beat();
        hashes_[next[plan.name(position)]++] = hash_offset(plan.view, position);
      }
    }
  }

  void link(std::size_t name) {
    const std::size_t begin = rows_.begin(name);
    const std::size_t end = rows_.end(name);
    if (end - begin < 2) return;
    const std::size_t mask = std::bit_ceil(2 * (end - begin)) - 1;
    tails_.assign(mask + 1, kNone);
    std::size_t slot = 0;
    for (std::size_t at = begin; at < end; ++at) {
      pulse_.beat();
      // Replicas are often adjacent, so the previous slot is tried first.
      if (tails_[slot] == kNone || !same(tails_[slot], at)) {
        slot = hashes_[at] & mask;
        while (tails_[slot] != kNone && !same(tails_[slot], at)) slot = (slot + 1) & mask;
      }
      if (tails_[slot] != kNone) {
        next_[tails_[slot]] = static_cast<std::uint32_t>(at);
        leads_[at] = false;
      }
      tails_[slot] = static_cast<std::uint32_t>(at);
    }
  }

  std::span<const columns::RankPlan> plans_;
  const RowsByName& rows_;
  const util::Pulse& pulse_;
  std::vector<std::uint32_t> next_;
  std::vector<bool> leads_;
  std::vector<std::uint32_t> hashes_;
  std::vector<std::uint32_t> tails_;
};

struct HashRanks {
  std::size_t operator()(const std::vector<std::uint32_t>& ranks) const {
    std::uint64_t mixed = ranks.size();
    for (const std::uint32_t rank : ranks) mixed = (mixed ^ rank) * 0x9E3779B97F4A7C15ULL;
    return static_cast<std::size_t>(mixed ^ (mixed >> 32));
  }
};

/// Chooses which of several ranks writes a chunk.
class Choice {
 public:
  Choice(std::size_t ranks, bool lowest, const SetOrder& set_order)
      : bytes_(ranks), lowest_(lowest), set_order_(set_order) {}

  /// Returns the rank that writes. `ranks` are ascending and distinct.
  std::uint32_t of(const std::vector<std::uint32_t>& ranks) {
    if (lowest_ || ranks.size() == 1) return ranks.front();
    const auto [order, is_new] = orders_.try_emplace(ranks);
    if (is_new) order->second = set_order_(ranks);
    return *std::ranges::min_element(order->second, {},
                                     [this](std::uint32_t rank) { return bytes_[rank]; });
  }

  bool add(std::uint32_t rank, std::int64_t bytes) {
    return util::checked_add(bytes_[rank], bytes, bytes_[rank]);
  }

 private:
  std::vector<std::int64_t> bytes_;
  bool lowest_;
  const SetOrder& set_order_;
  std::unordered_map<std::vector<std::uint32_t>, std::vector<std::uint32_t>, HashRanks> orders_;
};

/// Multiplies `product` by each number. Returns false if it does not fit int64.
bool multiply(std::span<const std::int64_t> numbers, std::int64_t& product) {
  return std::ranges::all_of(
      numbers, [&](std::int64_t number) { return util::checked_mul(product, number, product); });
}

bool is_overridden(const columns::RankPlan& plan, std::size_t position) {
  return plan.counted != nullptr &&
         (*plan.counted)[plan.view.row(position)] != columns::kBytesOfTensor;
}

/// Sets `bytes` to the size of a row's whole tensor; to 1 for byte entries and empty tensors, as
/// upstream does. Returns false if the size is unknown or does not fit int64.
bool counted_bytes(const columns::RankPlan& plan, std::size_t position, std::int64_t& bytes) {
  const columns::SavePlanView& view = plan.view;
  bytes = 1;
  if (is_overridden(plan, position)) {
    bytes = (*plan.counted)[view.row(position)];
  } else if (columns::writes_tensor(view.kind(position))) {
    bytes = plan.element_size[view.table->specs.properties[view.spec(position)]];
    if (bytes < 0 || !multiply(view.shape(position), bytes)) return false;
  }
  if (bytes == 0) bytes = 1;
  return true;
}

/// Sets `bytes` to the size of a row's box; to 1 for byte entries, whose size is not known, and for
/// empty boxes, so that many of them are spread. Returns false if the size is unknown or does not
/// fit int64.
bool box_bytes(const columns::RankPlan& plan, std::size_t position, std::int64_t& bytes) {
  const columns::SavePlanView& view = plan.view;
  bytes = 1;
  if (!columns::writes_tensor(view.kind(position))) return true;
  if (is_overridden(plan, position)) {
    std::int64_t elements = 1;
    if (!multiply(view.shape(position), elements)) return false;
    bytes = elements > 0 ? (*plan.counted)[view.row(position)] / elements : 0;
  } else {
    bytes = plan.element_size[view.table->specs.properties[view.spec(position)]];
    if (bytes < 0) return false;
  }
  const std::size_t ndim = view.ndim(position);
  if (!multiply({view.numbers(position) + ndim, ndim}, bytes)) return false;
  bytes = std::max<std::int64_t>(bytes, 1);
  return true;
}

/// Chooses one writer for each chunk, and marks the rows of the others.
class Deduplication {
 public:
  Deduplication(std::span<const columns::RankPlan> plans, const RowsByName& rows,
                const util::Pulse& pulse)
      : plans_(plans),
        rows_(rows),
        pulse_(pulse),
        chunks_(plans, rows, pulse),
        dropped_(rows.size()) {}

  /// Returns false if a number of bytes is unknown or does not fit int64.
  bool as_upstream(bool save_to_lowest_rank, const SetOrder& set_order) {
    Choice choice(plans_.size(), save_to_lowest_rank, set_order);
    return for_each_chunk([&](std::size_t first, std::size_t last, const auto& ranks) {
      const std::uint32_t chosen = choice.of(ranks);
      std::int64_t bytes = 0;
      if (!counted_bytes(plans_[rows_[last].plan], rows_[last].position, bytes) ||
          !choice.add(chosen, bytes)) {
        return false;
      }
      if (ranks.size() > 1) keep_only(first, chosen);
      return true;
    });
  }

  /// Returns false if a number of bytes is unknown or does not fit int64.
  bool by_bytes() {
    SharedChunks shared;
    std::vector<std::size_t> firsts;
    std::vector<std::int64_t> written(plans_.size());
    const bool known = for_each_chunk([&](std::size_t first, std::size_t, const auto& ranks) {
      std::int64_t bytes = 0;
      if (!box_bytes(plans_[rows_[first].plan], rows_[first].position, bytes)) return false;
      if (ranks.size() == 1) {
        return util::checked_add(written[ranks[0]], bytes, written[ranks[0]]);
      }
      firsts.push_back(first);
      shared.push(bytes, ranks);
      return true;
    });
    if (!known) return false;
    const auto writers = balance(shared, std::move(written), pulse_);
    if (!writers) return false;
    for (std::size_t chunk = 0; chunk < firsts.size(); ++chunk) {
      keep_only(firsts[chunk], (*writers)[chunk]);
    }
    return true;
  }

  bool is_dropped(std::size_t at) const { return dropped_[at]; }

 private:
  /// Calls `visit(first row, last row, ranks)` for each chunk, until it returns false. The choice
  /// of upstream depends on the bytes assigned so far, so chunks are visited in upstream's order.
  template <typename Visit>
  bool for_each_chunk(const Visit& visit) {
    std::vector<std::size_t> cursor = rows_.begins();
    std::vector<std::uint32_t> ranks;
    for (const columns::RankPlan& plan : plans_) {
      for (std::size_t position = 0; position < plan.view.size(); ++position) {
        pulse_.beat();
        const std::size_t first = cursor[plan.name(position)]++;
        if (!chunks_.leads(first)) continue;
        ranks.clear();
        std::size_t last = first;
        for (std::size_t at = first; at != kNone; at = chunks_.next(at)) {
          if (ranks.empty() || ranks.back() != rows_[at].plan) ranks.push_back(rows_[at].plan);
          last = at;
          pulse_.beat();
        }
        if (!visit(first, last, ranks)) return false;
      }
    }
    return true;
  }

  void keep_only(std::size_t first, std::uint32_t chosen) {
    for (std::size_t at = first; at != kNone; at = chunks_.next(at)) {
      if (rows_[at].plan != chosen) dropped_[at] = true;
    }
  }

  std::span<const columns::RankPlan> plans_;
  const RowsByName& rows_;
  const util::Pulse& pulse_;
  Duplicates chunks_;
  std::vector<bool> dropped_;
};

}  // namespace

std::optional<std::vector<std::vector<std::uint32_t>>> dedup(
    std::span<const columns::RankPlan> plans, std::size_t name_count, Keeper keeper,
    const SetOrder& set_order, const util::Pulse& pulse) {
  const RowsByName rows(plans, name_count, pulse);
  if (rows.size() >= kNone) return std::nullopt;
  Deduplication done(plans, rows, pulse);
  const bool known = keeper == Keeper::kBalanced
                         ? done.by_bytes()
                         : done.as_upstream(keeper == Keeper::kLowestRank, set_order);
  if (!known) return std::nullopt;

  std::vector<std::vector<std::uint32_t>> kept(plans.size());
  std::vector<std::size_t> cursor = rows.begins();
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    kept[rank].reserve(plans[rank].view.size());
    for (std::size_t position = 0; position < plans[rank].view.size(); ++position) {
      pulse.beat();
      if (!done.is_dropped(cursor[plans[rank].name(position)]++)) {
        kept[rank].push_back(static_cast<std::uint32_t>(plans[rank].view.row(position)));
      }
    }
  }
  return kept;
}

}  // namespace shardplan::planning
