#include "core/util/string_table.h"

#include <algorithm>
#include <stdexcept>

#include "core/util/hash.h"

namespace shardplan::util {

/// Returns the slot of a string, or the free slot where it would be inserted.
std::size_t TextTable::slot_of(std::string_view text, std::uint64_t hash) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = hash & mask;
  while (slots_[slot] != 0) {
    const std::uint32_t number = slots_[slot] - 1;
    if (hashes_[number] == hash && texts_[number] == text) break;
    slot = (slot + 1) & mask;
  }
  return slot;
}

std::uint32_t TextTable::number_of(std::string_view text) {
  if ((texts_.size() + 1) * 2 > slots_.size()) grow();
  const std::uint64_t hash = fingerprint(text, secret_seed());
  std::uint32_t& slot = slots_[slot_of(text, hash)];
  if (slot == 0) {
    if (texts_.size() >= 0xFFFFFFFE) throw std::length_error("more than 2^32 distinct strings");
    texts_.emplace_back(text);
    hashes_.push_back(hash);
    slot = static_cast<std::uint32_t>(texts_.size());
  }
  return slot - 1;
}

std::optional<std::uint32_t> TextTable::find(std::string_view text) const {
  const std::uint32_t slot =
      slots_.empty() ? 0 : slots_[slot_of(text, fingerprint(text, secret_seed()))];
  return slot == 0 ? std::nullopt : std::optional(slot - 1);
}

void TextTable::grow() {
  slots_.assign(std::max<std::size_t>(64, slots_.size() * 2), 0);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t number = 0; number < texts_.size(); ++number) {
    std::size_t slot = hashes_[number] & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<std::uint32_t>(number + 1);
  }
}

}  // namespace shardplan::util
