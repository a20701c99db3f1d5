#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <new>

#include "core/wire/chunks.h"
#include "core/wire/load_plan.h"
#include "core/wire/names.h"
#include "core/wire/save_plan.h"
#include "random_plans.h"

// Limits on the memory that readers allocate for hostile input.

// Sanitizers replace operator new themselves.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHARDPLAN_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SHARDPLAN_SANITIZED
#endif
#endif

#ifndef SHARDPLAN_SANITIZED

namespace {
thread_local std::size_t allocated_so_far = 0;
}  // namespace

// Not inline, or the compiler warns about free() of a pointer from new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  allocated_so_far += size;
  if (void* block = std::malloc(std::max(size, std::size_t{1}))) return block;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* block) noexcept {
  std::free(block);
}
[[gnu::noinline]] void operator delete(void* block, std::size_t) noexcept {
  std::free(block);
}

namespace shardplan::testing {
namespace {

/// Returns the bytes that a call allocates in total.
std::size_t allocated(const std::function<void()>& call) {
  const std::size_t before = allocated_so_far;
  try {
    call();
  } catch (const wire::BadWire&) {  // NOLINT(bugprone-empty-catch): rejection is fine
  }
  return allocated_so_far - before;
}

// A growing vector doubles its block, so it allocates up to four times its final size in total.
constexpr std::size_t kGrowth = 4;
// An exception and its message.
constexpr std::size_t kAlways = 1000;

constexpr std::size_t kForNames = 1100;
constexpr std::size_t kForRows = 1100;
constexpr std::size_t kForReads = 2600;
constexpr std::size_t kForChunks = 1024;

std::string zeros(std::size_t count) {
  return std::string(count, '\0');
}

/// A name of the maximum length, then `count` names that share all of it.
std::string names_of_one_byte(std::size_t count) {
  wire::ByteWriter out;
  out.varint(1);
  out.string(std::string(wire::kLongestName, 'x'));
  out.varint(count + 1);
  out.raw(std::string_view("\1\0", 2));
  out.raw(std::string(count, '\x10'));
  out.raw(zeros(2));
  return out.take();
}

/// Table of entries with one spec.
wire::NamedTable table_of(columns::WriteKind kind, std::size_t ndim, std::size_t entries) {
  wire::NamedTable table;
  table.names.names = {"a"};
  table.properties = {""};
  table.table.specs.push(kind, 0, Numbers(ndim, 0));
  table.table.name.resize(entries);
  table.table.spec.resize(entries);
  return table;
}

TEST(WireBounds, NamesThatShareAllParts) {
  const std::string bytes = names_of_one_byte(3000);
  const std::size_t asked = allocated([&bytes] {
    wire::ByteReader in(bytes);
    EXPECT_EQ(wire::read_names(in).names.size(), 3001u);
  });
  EXPECT_LE(asked, kForNames * bytes.size() + kAlways);
  EXPECT_GT(asked, 3000 * wire::kLongestName);
}

TEST(WireBounds, CountsWithoutElements) {
  for (std::size_t location = 0; location < 8; ++location) {
    for (const std::uint64_t count : {UINT64_C(5000), UINT64_MAX / 8}) {
      wire::ByteWriter out;
      out.raw(zeros(location));
      out.varint(count);
      out.raw(zeros(5000));
      EXPECT_LE(allocated([&out] { wire::read_table(out.bytes()); }), 100 * out.size()) << location;
    }
  }
}

TEST(WireBounds, RowsOfMaxDimsAndOfNoBytes) {
  for (const columns::WriteKind kind : {columns::WriteKind::kShard, columns::WriteKind::kBytes}) {
    const std::size_t ndim = columns::writes_tensor(kind) ? columns::kMaxDims : 0;
    const wire::NamedTable table = table_of(kind, ndim, 3000);
    for (const bool has_indices : {false, true}) {
      const std::string mark(1, has_indices ? '\3' : '\1');
      const std::size_t bytes_of_row = columns::writes_tensor(kind) ? has_indices ? 2 : 1 : 0;
      const std::string bytes = mark + zeros(3000 * bytes_of_row);
      const std::size_t asked = allocated([&] { wire::read_rows(bytes, 3000, table.table); });
      // Rows without bytes are limited by their table.
      EXPECT_LE(asked, kGrowth * kForRows * bytes.size() + 24 * table.table.size() + kAlways);
      EXPECT_GT(asked, std::size_t{6000} * ndim * sizeof(std::int64_t));
    }
  }
  const wire::NamedTable table = table_of(columns::WriteKind::kShard, columns::kMaxDims, 1);
  const std::string bytes = zeros(3);
  EXPECT_LE(allocated([&] { wire::read_rows(bytes, SIZE_MAX, table.table); }), kAlways);
}

TEST(WireBounds, ReadsOfMaxDims) {
  const std::string names = wire::write_read_names({"a"}).value();
  for (const std::size_t count : {1U, 2U, 100U}) {
    wire::ByteWriter out;
    out.varint(count);
    for (std::size_t row = 0; row < count; ++row) {
      out.raw(std::string_view("\4\0\0\x40\0", 5));
      if (row + 1 < count) out.raw(zeros(columns::kMaxDims));  // the last row is truncated
    }
    const std::string bytes = out.take();
    EXPECT_LE(allocated([&] { wire::read_reads(names, bytes, count); }),
              kForReads * (names.size() + bytes.size()) + kAlways);
  }
  EXPECT_LE(allocated([&] { wire::read_reads(names, "\1", SIZE_MAX); }), 2 * kAlways);
}

/// Returns the bytes that `read_chunks` may allocate.
std::size_t most_for_chunks(std::size_t bytes, std::size_t entries) {
  return kGrowth * (kForChunks * bytes + 16 * (entries + 1)) + kAlways;
}

TEST(WireBounds, ChunksOfMaxDims) {
  // One entry of many chunks, and many entries of one chunk.
  for (const std::size_t entries : {std::size_t{1}, std::size_t{1500}}) {
    wire::ByteWriter out;
    for (std::size_t entry = 0; entry < entries; ++entry) {
      out.varint(3000 / entries);
      out.raw(zeros(3000 / entries));
    }
    const std::string bytes = out.take();
    wire::NamedTable named = table_of(columns::WriteKind::kTensor, columns::kMaxDims, entries);
    const std::size_t asked = allocated(
        [&] { EXPECT_EQ(wire::read_chunks(bytes, std::move(named.table)).begin.back(), 3000u); });
    EXPECT_LE(asked, most_for_chunks(bytes.size(), entries));
    EXPECT_GE(asked, std::size_t{3000} * 2 * columns::kMaxDims * sizeof(std::int64_t));
  }
}

TEST(WireBounds, MissingChunks) {
  for (const std::uint64_t count : {UINT64_C(99), UINT64_C(100), UINT64_C(101), UINT64_MAX / 8}) {
    // Every chunk encodes all dims, so the input ends within the first chunks.
    wire::ByteWriter out;
    out.varint(count);
    out.raw(std::string(100, '\x7f'));
    wire::NamedTable named = table_of(columns::WriteKind::kShard, columns::kMaxDims, 1);
    const std::size_t asked = allocated([&] {
      EXPECT_THROW(wire::read_chunks(out.bytes(), std::move(named.table)), wire::BadWire);
    });
    EXPECT_LE(asked, count > 100 ? kAlways : most_for_chunks(out.size(), 1));
  }
}

TEST(WireBounds, RandomBytes) {
  Random random(95);
  const wire::NamedTable table = table_of(columns::WriteKind::kTensor, columns::kMaxDims, 4);
  const std::string no_names = wire::write_read_names({"a"}).value();
  for (int round = 0; round < 30000; ++round) {
    std::string bytes = random_bytes(60, random);
    if (random.one_in(2)) {
      for (char& byte : bytes) byte = static_cast<char>(byte & 3);
    }
    const std::size_t count = random.index(60);
    ASSERT_LE(allocated([&] { wire::read_table(bytes); }), kForNames * bytes.size() + kAlways);
    ASSERT_LE(allocated([&] { wire::read_rows(bytes, count, table.table); }),
              kGrowth * kForRows * bytes.size() + kAlways);
    ASSERT_LE(allocated([&] { wire::read_reads(no_names, bytes, count); }),
              kForReads * (no_names.size() + bytes.size()) + kAlways);
    columns::SaveTable chunked = table.table;
    ASSERT_LE(allocated([&] { wire::read_chunks(bytes, std::move(chunked)); }),
              most_for_chunks(bytes.size(), table.table.size()));
  }
}

}  // namespace
}  // namespace shardplan::testing

#endif
