#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/util/block_vector.h"
#include "core/util/string_table.h"

namespace shardplan::pickle {

/// What a value of a pickle is. What a checkpoint's metadata holds once a chunk (torch.Size,
/// ChunkStorageMetadata, MetadataIndex, _StorageInfo) has a record of its own; every other object
/// is a kObject (made without arguments, then given a state) or a kCall (made by calling a global).
/// Nothing is made or called here.
enum class Tag : std::uint8_t {
  kNone,
  kFalse,
  kTrue,
  kInt,      // of 56 bits
  kWideInt,  // into ints: of 64 bits
  kHugeInt,  // into bytes: little-endian two's complement
  kFloat,
  kText,
  kBytes,
  kByteArray,
  kTuple,
  kFrozenSet,
  kList,
  kDict,
  kOrderedDict,
  kSet,
  kGlobal,
  kObject,
  kCall,
  kSize,
  kChunk,
  kIndex,
  kLocation,
  // Only in the memo: what was taken apart, and is put together again where a file asks for it.
  kTupleOfSize,
  kArgumentsOfSize,
  kStateOfChunk,
  kStateOfIndex,
  kStateOfPlace,
  kUnset,
};

/// The most dims of a torch.Size: its kind of value has a byte for them, and in StorageRows 255
/// says that there is no offset. torch itself sets no limit for a size, and one of 64 dims for most
/// operations on a tensor.
inline constexpr std::size_t kMaxDimsOfSize = 254;

/// A value: its tag, and its number or where it lies.
class Value {
 public:
  Value() = default;
  explicit Value(Tag tag, std::uint64_t payload = 0)
      : bits_(static_cast<std::uint64_t>(tag) << 56 | (payload & kPayload)) {}

  static bool fits(std::int64_t number) { return number << 8 >> 8 == number; }
  static Value of_int(std::int64_t number) {
    return Value(Tag::kInt, static_cast<std::uint64_t>(number));
  }
  static Value of_size(std::size_t first, std::size_t ndim) {
    return Value(Tag::kSize, static_cast<std::uint64_t>(first) << 8 | ndim);
  }

  Tag tag() const { return static_cast<Tag>(bits_ >> 56); }
  std::size_t at() const { return static_cast<std::size_t>(bits_ & kPayload); }
  /// The number of a kInt.
  std::int64_t number() const { return static_cast<std::int64_t>(bits_ << 8) >> 8; }
  /// Of a kSize: where its numbers begin, and how many they are.
  std::size_t first() const { return at() >> 8; }
  std::size_t ndim() const { return at() & 0xFF; }
  bool operator==(const Value&) const = default;

 private:
  static constexpr std::uint64_t kPayload = (std::uint64_t{1} << 56) - 1;
  std::uint64_t bits_ = 0;
};

/// A global that a pickle names.
struct Global {
  std::string module;
  std::string name;
  bool operator==(const Global&) const = default;
};

/// The values of a pickle, in tables that point into each other.
struct Values {
  static constexpr std::uint32_t kNoMore = 0xFFFFFFFF;

  /// A run of values; where a container grew, another run follows.
  struct Span {
    std::uint64_t begin = 0;
    std::uint32_t count = 0;
    std::uint32_t next = kNoMore;
  };
  struct Object {
    std::uint32_t global = 0;
    bool built = false;
    std::uint64_t memo = 0;  // entries of the memo when it was made
    Value state;
  };
  struct Call {
    /// In the place of a global: a persistent id, which is the arguments.
    static constexpr std::uint32_t kPersistentId = 0xFFFFFFFF;

    std::uint32_t global = 0;
    Value arguments;
  };
  struct Chunk {
    Value offsets;
    Value sizes;
  };
  struct Index {
    std::uint32_t fqn = 0;  // into texts
    Value offset;       // kSize, kNone, or kUnset where the object has no attribute of that name
    Value chunk_index;  // kInt or kNone
  };
  struct Location {
    std::uint32_t path = 0;  // into texts
    std::int64_t offset = 0;
    std::int64_t length = 0;
  };

  util::TextTable texts;
  std::vector<Global> globals;
  std::vector<std::int64_t> ints;
  std::vector<double> floats;
  std::vector<std::string> bytes;
  std::vector<std::int64_t> numbers;  // of sizes
  util::Arena<Value> items;
  util::Arena<Span> spans;
  util::Arena<Object> objects;
  util::Arena<Call> calls;
  util::Arena<Chunk> chunks;
  util::Arena<Index> indices;
  util::Arena<Location> locations;

  std::span<const std::int64_t> size(Value value) const {
    return {numbers.data() + value.first(), value.ndim()};
  }

  /// Calls `visit(Value)` for each value of a tuple or container, in order; of a dict, keys
  /// and values in turn.
  template <typename Visit>
  void for_each(Value container, Visit&& visit) const {
    for (std::size_t at = container.at(); at != kNoMore; at = spans[at].next) {
      const Span run = spans[at];
      for (std::uint64_t item = run.begin; item < run.begin + run.count; ++item) visit(items[item]);
    }
  }

  /// The first value of a tuple or container, or nothing.
  std::optional<Value> front(Value container) const {
    if (container.at() == kNoMore || spans[container.at()].count == 0) return std::nullopt;
    return items[spans[container.at()].begin];
  }

  /// Whether a tuple or container holds more than so many values; looks at no more than that.
  bool holds_more_than(Value container, std::size_t most) const {
    std::size_t total = 0;
    for (std::size_t at = container.at(); at != kNoMore && total <= most; at = spans[at].next) {
      total += spans[at].count;
    }
    return total > most;
  }

  std::size_t count(Value container) const {
    std::size_t total = 0;
    for (std::size_t at = container.at(); at != kNoMore; at = spans[at].next) {
      total += spans[at].count;
    }
    return total;
  }
};

}  // namespace shardplan::pickle
