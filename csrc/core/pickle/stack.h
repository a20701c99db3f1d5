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

/// What a pickle machine works on: its input, the values made so far, the stack and the memo.
class Stack {
 protected:
  /// The attributes of records, by their numbers among the texts.
  enum Attribute : std::uint8_t { kOffsets, kSizes, kFqn, kChunkIndex, kOffset, kPath, kLength };

  explicit Stack(const Source& source);

  [[noreturn]] void fail(const std::string& what) const { in_.fail(what); }

  // The stack.

  void push(Value value) { stack_.push_back(value); }

  /// Number of values that may be taken: those above the last mark.
  std::size_t free() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }

  Value& top() {
    if (free() == 0) fail("takes more than the stack has");
    return stack_.back();
  }

  Value pop() {
    const Value value = top();
    stack_.pop_back();
    return value;
  }

  /// Takes the last mark, and says how many values lie above it.
  std::size_t above_mark() {
    if (marks_.empty()) fail("takes a mark that the stack does not have");
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
    if (found == far_memo_.end()) fail("asks for what it did not put into the memo");
    return found->second;
  }

  /// Throws where what is held, and so many values more, is too much for the bytes read so far.
  void check_room(std::size_t more) const {
    constexpr std::size_t kMaxAByte = 4;
    constexpr std::size_t kMaxAnyway = 4096;
    const std::size_t held =
        values_.items.size() + values_.spans.size() + values_.numbers.size() + more;
    if (held <= kMaxAnyway || (held - kMaxAnyway) / kMaxAByte <= in_.position()) return;
    fail("makes " + util::grouped(held) + " values of " + util::grouped(in_.position()) +
         " bytes read, more than 4 a byte");
  }

  /// From now on the value is held twice: what it is made of stays as it is.
  Value pinned(Value value) {
    const Tag tag = value.tag();
    if (tag >= Tag::kTuple && tag <= Tag::kCall && tag != Tag::kGlobal) {
      pinned_items_ = values_.items.size();
      pinned_spans_ = values_.spans.size();
      pinned_objects_ = values_.objects.size();
    }
    return value;
  }

  /// In the memo's entries from `first` on, `now` in the place of `value`.
  void replace_in_memo(Value value, Value now, std::size_t first) {
    for (std::size_t at = first; at < memo_.size(); ++at) {
      if (memo_[at] == value) memo_[at] = now;
    }
  }

  /// What was taken apart, as the file made it.
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
    if (values_.spans.size() >= Values::kNoMore) fail("holds more than 2^32 containers");
    values_.spans.push_back({values_.items.size(), 0, Values::kNoMore});
    return values_.spans.size() - 1;
  }

  void push_container(Tag tag) { push(Value(tag, new_span())); }

  void push_tuple(std::size_t count) {
    if (count > free()) fail("takes more than the stack has");
    const Value made(Tag::kTuple, count == 0 ? Values::kNoMore : new_span());
    if (count > 0) extend(made, stack_.data() + stack_.size() - count, count);
    stack_.resize(stack_.size() - count);
    push(made);
  }

  /// Adds values to the end of a container.
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
  // What lies below was fetched from the memo, and may be held elsewhere.
  std::size_t pinned_items_ = 0;
  std::size_t pinned_spans_ = 0;
  std::size_t pinned_objects_ = 0;
};

}  // namespace shardplan::pickle
