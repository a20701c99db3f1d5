#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/pickle/input.h"
#include "core/pickle/values.h"
#include "core/util/hash.h"
#include "core/util/text.h"

namespace shardplan::pickle {

/// State of the pickle machine: input, values, stack and memo.
class Stack {
 protected:
  /// Attribute names of records. The enumerators are their numbers in `values_.texts`.
  enum Attribute : std::uint8_t { kOffsets, kSizes, kFqn, kChunkIndex, kOffset, kPath, kLength };

  explicit Stack(const Source& source);

  [[noreturn]] void fail(const std::string& what) const { in_.fail(what); }
  /// Throws for an opcode that pops more values than `free()`.
  [[noreturn]] void fail_pop(std::size_t count) const {
    fail("pops " + util::grouped(count) + " values from a stack of " + util::grouped(free()));
  }

  // The stack.

  void push(Value value) { stack_.push_back(value); }

  /// Returns the number of values above the last mark, i.e. those that can be popped.
  std::size_t free() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }

  Value& top() {
    if (free() == 0) fail("pops a value from an empty stack");
    return stack_.back();
  }

  Value pop() {
    const Value value = top();
    stack_.pop_back();
    return value;
  }

  /// Pops the last mark and returns the number of values above it.
  std::size_t above_mark() {
    if (marks_.empty()) fail("pops a mark from a stack without marks");
    const std::size_t count = stack_.size() - marks_.back();
    marks_.pop_back();
    return count;
  }

  void drop() {
    if (free() > 0) {
      stack_.pop_back();
    } else {
      above_mark();
    }
  }

  // The memo.

  void put(std::uint64_t at) {
    if (at == memo_.size()) {
      memo_.push_back(top());
    } else if (at < memo_.size()) {
      memo_[at] = pinned(top());
    } else {
      far_memo_[at] = pinned(top());
    }
  }

  void memoize() { put(memo_.size() + far_memo_.size()); }

  void get(std::uint64_t at) {
    Value& kept = at < memo_.size() ? memo_[at] : far(at);
    if (kept.tag() >= Tag::kTupleOfSize) kept = restored(kept);
    push(pinned(kept));
  }

  Value& far(std::uint64_t at) {
    const auto found = far_memo_.find(at);
    if (found == far_memo_.end()) {
      fail("reads memo entry " + std::to_string(at) + ", which is not set");
    }
    return found->second;
  }

  /// Throws if the values held plus `more` exceed the limit for the bytes read so far.
  void check_room(std::size_t more) const {
    constexpr std::size_t kMaxAByte = 4;
    constexpr std::size_t kMaxAnyway = 4096;
    const std::size_t held =
        values_.items.size() + values_.spans.size() + values_.numbers.size() + more;
    if (held <= kMaxAnyway || (held - kMaxAnyway) / kMaxAByte <= in_.position()) return;
    fail("makes " + util::grouped(held) + " values from " + util::grouped(in_.position()) +
         " bytes (the limit is 4 per byte)");
  }

  /// Marks a value as shared, so that its parts are not replaced by a record. Returns the value.
  Value pinned(Value value) {
    const Tag tag = value.tag();
    if (tag >= Tag::kTuple && tag <= Tag::kCall && tag != Tag::kGlobal) {
      pinned_items_ = values_.items.size();
      pinned_spans_ = values_.spans.size();
      pinned_objects_ = values_.objects.size();
    }
    return value;
  }

  /// Replaces `value` by `now` in the memo entries from `first` on.
  void replace_in_memo(Value value, Value now, std::size_t first) {
    for (std::size_t at = first; at < memo_.size(); ++at) {
      if (memo_[at] == value) memo_[at] = now;
    }
  }

  /// Rebuilds a tuple or dict that was replaced by a record.
  Value restored(Value value);

  void push_int(std::int64_t number) {
    if (Value::fits(number)) {
      push(Value::of_int(number));
      return;
    }
    push(Value(Tag::kWideInt, values_.ints.size()));
    values_.ints.push_back(number);
  }

  // Tuples and containers.

  Value container(Tag tag, const std::vector<Value>& of) {
    const Value made(tag, new_span());
    extend(made, of.data(), of.size());
    return made;
  }

  std::size_t new_span() {
    if (values_.spans.size() >= Values::kNoMore) fail("has more than 2^32 containers");
    values_.spans.push_back({values_.items.size(), 0, Values::kNoMore});
    return values_.spans.size() - 1;
  }

  void push_container(Tag tag) { push(Value(tag, new_span())); }

  void push_tuple(std::size_t count) {
    if (count > free()) fail_pop(count);
    const Value made(Tag::kTuple, count == 0 ? Values::kNoMore : new_span());
    if (count > 0) extend(made, stack_.data() + stack_.size() - count, count);
    stack_.resize(stack_.size() - count);
    push(made);
  }

  /// Appends values to a container.
  void extend(Value made, const Value* from, std::size_t count) {
    constexpr std::size_t kFull = 0xFFFFFFFF;
    std::size_t tail = made.at();
    if (values_.spans[tail].next != Values::kNoMore) tail = tails_.at(made.at());
    if (values_.spans[tail].count == 0) values_.spans[tail].begin = values_.items.size();
    const std::size_t held = values_.spans[tail].count;
    if (count > kFull) fail("adds more than 2^32 values at once");
    if (values_.spans[tail].begin + held != values_.items.size() || held + count > kFull) {
      const std::size_t more = new_span();
      values_.spans[tail].next = static_cast<std::uint32_t>(more);
      tails_[made.at()] = tail = more;
    }
    for (std::size_t i = 0; i < count; ++i) values_.items.push_back(from[i]);
    values_.spans[tail].count += static_cast<std::uint32_t>(count);
  }

  bool is_last_span(Value value) const {
    return value.at() + 1 == values_.spans.size() && value.at() >= pinned_spans_ &&
           values_.spans[value.at()].begin >= pinned_items_ &&
           values_.spans[value.at()].begin + values_.spans[value.at()].count ==
               values_.items.size();
  }

  void drop_span(Value value) {
    values_.items.truncate(values_.spans[value.at()].begin);
    values_.spans.truncate(value.at());
  }

  Input in_;
  Values values_;
  std::vector<Value> stack_;
  std::vector<std::size_t> marks_;
  util::Arena<Value> memo_;
  std::unordered_map<std::uint64_t, Value, util::SecretHash> far_memo_;
  std::unordered_map<std::uint64_t, std::size_t> tails_;  // of a container of several runs
  // Values below these sizes were shared through the memo, so they must not be dropped.
  std::size_t pinned_items_ = 0;
  std::size_t pinned_spans_ = 0;
  std::size_t pinned_objects_ = 0;
};

}  // namespace shardplan::pickle
