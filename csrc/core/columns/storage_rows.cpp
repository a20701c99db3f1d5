#include "core/columns/storage_rows.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <stdexcept>

#include "core/util/checked.h"
#include "core/util/hash.h"

namespace shardplan::columns {
namespace {

std::uint64_t hash_of(std::uint32_t name, std::span<const std::int64_t> offset) {
  std::uint64_t hash = util::mix(util::secret_seed() + offset.size(), name);
  for (const std::int64_t number : offset)
    hash = util::mix(hash, static_cast<std::uint64_t>(number));
  return hash;
}

bool same_key(const StorageRows& rows, std::size_t a, std::size_t b) {
  return rows.name[a] == rows.name[b] && rows.ndim[a] == rows.ndim[b] &&
         std::ranges::equal(rows.offset(a), rows.offset(b));
}

bool has_offset(const StorageRows& rows, std::size_t row, const StorageIndex::Offset& offset) {
  if (!offset) return rows.ndim[row] == StorageRows::kNoOffset;
  return rows.ndim[row] != StorageRows::kNoOffset && std::ranges::equal(rows.offset(row), *offset);
}

/// Adds the strings of `from` to `into`. Returns their numbers in `into`.
std::vector<std::uint32_t> numbers_in(util::TextTable& into, const util::TextTable& from) {
  std::vector<std::uint32_t> numbers;
  numbers.reserve(from.size());
  for (std::size_t text = 0; text < from.size(); ++text) {
    numbers.push_back(into.number_of(from[text]));
  }
  return numbers;
}

/// Removes duplicate keys; keeps the first key and the last value.
StorageRows without_repeats(const StorageRows& rows) {
  StorageRows kept;
  kept.names = rows.names;
  kept.paths = rows.paths;
  const StorageIndex index(rows);
  std::vector<std::size_t> at(rows.size());  // per first row of a key: its row in `kept`
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const std::size_t first = index.find(rows.key(row), kNoChunkIndex).value_or(row);
    if (first != row) {
      kept.path[at[first]] = rows.path[row];
      kept.begin[at[first]] = rows.begin[row];
      kept.length[at[first]] = rows.length[row];
      continue;
    }
    at[row] = kept.size();
    std::ranges::copy(rows.offset(row),
                      kept.push(rows.name[row], rows.ndim[row], rows.chunk_index[row],
                                rows.path[row], rows.begin[row], rows.length[row]));
  }
  return kept;
}

}  // namespace

void StorageRows::reserve(std::size_t rows, std::size_t of_numbers) {
  name.reserve(rows);
  path.reserve(rows);
  chunk_index.reserve(rows);
  begin.reserve(rows);
  length.reserve(rows);
  ndim.reserve(rows);
  first.reserve(rows);
  numbers.reserve(of_numbers);
}

std::int64_t* StorageRows::push(std::uint32_t row_name, std::uint8_t row_ndim,
                                std::int64_t row_index, std::uint32_t row_path,
                                std::int64_t row_begin, std::int64_t row_length) {
  name.push_back(row_name);
  ndim.push_back(row_ndim);
  chunk_index.push_back(row_index);
  path.push_back(row_path);
  begin.push_back(row_begin);
  length.push_back(row_length);
  first.push_back(numbers.size());
  numbers.resize(numbers.size() + (row_ndim == kNoOffset ? 0 : row_ndim));
  return numbers.data() + first.back();
}

std::vector<std::int64_t> file_ends(const StorageRows& rows) {
  std::vector<std::int64_t> ends(rows.paths->size());
  for (std::size_t row = 0; row < rows.size(); ++row) {
    std::int64_t end = 0;
    if (!util::checked_add(rows.begin[row], rows.length[row], end)) end = INT64_MAX;
    ends[rows.path[row]] = std::max(ends[rows.path[row]], end);
  }
  return ends;
}

StorageIndex::StorageIndex(const StorageRows& rows) : rows_(rows), begin_(rows.names->size() + 1) {
  if (rows.size() >= 0xFFFFFFFF) throw std::length_error("more than 2^32 saved items");
  for (const std::uint32_t name : rows.name) ++begin_[name + 1];
  for (std::size_t name = 0; name + 1 < begin_.size(); ++name) begin_[name + 1] += begin_[name];
  by_name_.resize(rows.size());
  std::vector<std::size_t> next(begin_.begin(), begin_.end() - 1);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    by_name_[next[rows.name[row]]++] = static_cast<std::uint32_t>(row);
  }
}

std::optional<std::size_t> StorageIndex::find(const StorageKey& key,
                                              std::int64_t chunk_index) const {
  const auto name = rows_.names->find(key.fqn);
  return name ? find(*name, key.offset, chunk_index) : std::nullopt;
}

std::optional<std::size_t> StorageIndex::find(std::uint32_t name, const Offset& offset,
                                              std::int64_t chunk_index) const {
  const std::size_t begin = begin_[name];
  const std::size_t count = begin_[name + 1] - begin;
  if (chunk_index >= 0 && static_cast<std::uint64_t>(chunk_index) < count) {
    const std::size_t row = by_name_[begin + static_cast<std::size_t>(chunk_index)];
    if (has_offset(rows_, row, offset)) return row;
  }
  return count == 0 ? std::nullopt : find_hashed(name, offset);
}

std::optional<std::size_t> StorageIndex::find_hashed(std::uint32_t name,
                                                     const Offset& offset) const {
  if (slots_.empty()) hash_all();
  const std::size_t mask = slots_.size() - 1;
  const std::uint64_t hash = hash_of(name, offset.value_or(std::span<const std::int64_t>()));
  for (std::size_t slot = hash & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const std::size_t row = slots_[slot] - 1;
    if (rows_.name[row] == name && has_offset(rows_, row, offset)) return row;
  }
  return std::nullopt;
}

void StorageIndex::hash_all() const {
  std::size_t count = 64;
  while (count < rows_.size() * 2) count *= 2;
  slots_.assign(count, 0);
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    std::size_t slot = hash_of(rows_.name[row], rows_.offset(row)) & (count - 1);
    // The first row of equal keys is kept.
    while (slots_[slot] != 0 && !same_key(rows_, slots_[slot] - 1, row)) {
      slot = (slot + 1) & (count - 1);
    }
    if (slots_[slot] == 0) slots_[slot] = static_cast<std::uint32_t>(row + 1);
  }
}

bool StorageIndex::unique() const {
  bool ascending = true;
  for (std::size_t name = 0; name + 1 < begin_.size() && ascending; ++name) {
    for (std::size_t at = begin_[name] + 1; at < begin_[name + 1] && ascending; ++at) {
      const auto before = rows_.offset(by_name_[at - 1]);
      const auto now = rows_.offset(by_name_[at]);
      ascending = std::ranges::lexicographical_compare(before, now);
    }
  }
  if (ascending) return true;
  if (slots_.empty()) hash_all();
  const auto held = static_cast<std::size_t>(
      std::ranges::count_if(slots_, [](std::uint32_t slot) { return slot != 0; }));
  return held == rows_.size();
}

StorageRows merge_results(std::span<const StorageRows* const> results) {
  StorageRows merged;
  std::size_t rows = 0;
  std::size_t numbers = 0;
  for (const StorageRows* result : results) {
    rows += result->size();
    numbers += result->numbers.size();
  }
  merged.reserve(rows, numbers);
  auto names = std::make_shared<util::TextTable>();
  auto paths = std::make_shared<util::TextTable>();
  // Ranks with equal names share a table, whose numbers are translated once.
  std::map<const util::TextTable*, std::vector<std::uint32_t>> known;
  for (const StorageRows* result : results) {
    auto [of_names, is_new] = known.try_emplace(result->names.get());
    if (is_new) of_names->second = numbers_in(*names, *result->names);
    const std::vector<std::uint32_t> of_paths = numbers_in(*paths, *result->paths);
    for (std::size_t row = 0; row < result->size(); ++row) {
      std::ranges::copy(result->offset(row),
                        merged.push(of_names->second[result->name[row]], result->ndim[row],
                                    result->chunk_index[row], of_paths[result->path[row]],
                                    result->begin[row], result->length[row]));
    }
  }
  merged.names = std::move(names);
  merged.paths = std::move(paths);
  return StorageIndex(merged).unique() ? merged : without_repeats(merged);
}

}  // namespace shardplan::columns
