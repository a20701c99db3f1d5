#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace shardplan::util {

/// Growable array with stable element addresses. Storage is a list of blocks of 2^kBlockBits
/// elements; growth allocates one block and never copies or moves existing elements.
template <typename T, unsigned kBlockBits = 12>
class Arena {
 public:
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  T& operator[](std::size_t at) { return blocks_[at >> kBlockBits][at & kMask]; }
  const T& operator[](std::size_t at) const { return blocks_[at >> kBlockBits][at & kMask]; }
  T& back() { return (*this)[size_ - 1]; }

  void push_back(T value) {
    if ((size_ & kMask) == 0 && (size_ >> kBlockBits) == blocks_.size()) {
      blocks_.push_back(std::make_unique_for_overwrite<T[]>(kMask + 1));
    }
    blocks_[size_ >> kBlockBits][size_ & kMask] = std::move(value);
    ++size_;
  }

  /// Drops all elements at index `count` and above. Keeps the blocks for reuse.
  void truncate(std::size_t count) { size_ = count < size_ ? count : size_; }

 private:
  static constexpr std::size_t kMask = (std::size_t{1} << kBlockBits) - 1;

  std::vector<std::unique_ptr<T[]>> blocks_;
  std::size_t size_ = 0;
};

}  // namespace shardplan::util
