#include "counted_allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> given{0};

void* counted(std::size_t size) {
  given.fetch_add(size, std::memory_order_relaxed);
  void* block = std::malloc(size == 0 ? 1 : size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

}  // namespace

// The standard library's array forms call these.
void* operator new(std::size_t size) {
  return counted(size);
}
void operator delete(void* block) noexcept {
  std::free(block);
}
void operator delete(void* block, std::size_t) noexcept {
  std::free(block);
}

namespace shardplan::testing {

std::size_t allocated_bytes() {
  return given.load(std::memory_order_relaxed);
}

}  // namespace shardplan::testing
