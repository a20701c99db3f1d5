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

/// Type of a value. The classes that checkpoint metadata holds once per chunk (torch.Size,
/// ChunkStorageMetadata, MetadataIndex, _StorageInfo) have compact records. Other objects are
/// kObject (created without arguments, then given a state) or kCall (result of calling a global).
/// They are descriptions only; nothing is created or called.
enum class Tag : std::uint8_t {
  kNone,
  kFalse,
  kTrue,
  kInt,      // fits 56 bits, stored inline
  kWideInt,  // fits 64 bits, index in `ints`
  kHugeInt,  // index in `bytes`: little-endian two's complement
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
  // Memo only: a tuple or dict that was replaced by a record; rebuilt when the pickle reads it.
  kTupleOfSize,
  kArgumentsOfSize,
  kStateOfChunk,
  kStateOfIndex,
  kStateOfLocation,
  kUnset,
};

/// Maximum number of dims of a torch.Size. Value has one byte for it, and 255 is
/// StorageRows::kNoOffset. torch limits tensors to 64 dims for most operations, but not torch.Size.
inline constexpr std::size_t kMaxDimsOfSize = 254;

/// Tagged value of 8 bytes. The payload is an inline number or an index in a table of Values.
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
  /// Returns the number of a kInt.
  std::int64_t number() const { return static_cast<std::int64_t>(bits_ << 8) >> 8; }
  /// For kSize: index of the first number in `numbers`, and the number of dims.
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

/// Values of a pickle, as tables that index each other.
struct Values {
  static constexpr std::uint32_t kNoMore = 0xFFFFFFFF;

  /// Run of values in `items`. A container that grows later continues in the run `next`.
  struct Span {
    std::uint64_t begin = 0;
    std::uint32_t count = 0;
    std::uint32_t next = kNoMore;
  };
  struct Object {
    std::uint32_t global = 0;
    bool built = false;
    std::uint64_t memo = 0;  // size of the memo when the object was created
    Value state;
  };
  struct Call {
    /// Value of `global` for a persistent id; `arguments` is then the id.
    static constexpr std::uint32_t kPersistentId = 0xFFFFFFFF;

    std::uint32_t global = 0;
    Value arguments;
  };
  struct Chunk {
    Value offsets;
    Value sizes;
  };
  struct Index {
    std::uint32_t fqn = 0;  // index in `texts`
    Value offset;           // kSize, kNone, or kUnset if the object has no such attribute
    Value chunk_index;      // kInt or kNone
  };
  struct Location {
    std::uint32_t path = 0;  // index in `texts`
    std::int64_t offset = 0;
    std::int64_t length = 0;
  };

  util::TextTable texts;
  std::vector<Global> globals;
  std::vector<std::int64_t> ints;
  std::vector<double> floats;
  std::vector<std::string> bytes;
  std::vector<std::int64_t> numbers;  // numbers of kSize values
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

  /// Calls `visit(Value)` for each value of a tuple or container, in order. The items of a dict are
  /// visited as key, value, key, value, ...
  template <typename Visit>
  void for_each(Value container, Visit&& visit) const {
    for (std::size_t at = container.at(); at != kNoMore; at = spans[at].next) {
      const Span run = spans[at];
      for (std::uint64_t item = run.begin; item < run.begin + run.count; ++item) visit(items[item]);
    }
  }

  /// Returns the first value of a tuple or container, or nullopt if it is empty.
  std::optional<Value> front(Value container) const {
    if (container.at() == kNoMore || spans[container.at()].count == 0) return std::nullopt;
    return items[spans[container.at()].begin];
  }

  /// Returns true if a tuple or container has more than `most` values. Does not count beyond that.
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
