#include "core/pickle/machine.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>
#include <string_view>
#include <utility>

#include "core/pickle/globals.h"
#include "core/pickle/opcodes.h"
#include "core/pickle/stack.h"
#include "core/util/text.h"

namespace shardplan::pickle {
namespace {

class Machine : private Stack {
 public:
  Machine(const Source& source, const Dialect& dialect) : Stack(source), dialect_(dialect) {}

  Pickle run() {
    while (step(in_.byte())) {
    }
    const Value root = pop();
    const std::uint64_t bytes = in_.position();
    // As in CPython, frames must be complete even if the pickle ends within one.
    in_.read_to(end_of_frames_);
    return {std::move(values_), root, bytes};
  }

 private:
  bool step(std::uint8_t code) {
    switch (code) {
      case opcode::kBinGet: get(in_.number<1>()); break;
      case opcode::kLongBinGet: get(in_.number<4>()); break;
      case opcode::kMemoize: memoize(); break;
      case opcode::kBinInt1: push_int(static_cast<std::int64_t>(in_.number<1>())); break;
      case opcode::kBinInt2: push_int(static_cast<std::int64_t>(in_.number<2>())); break;
      case opcode::kBinInt: push_int(static_cast<std::int32_t>(in_.number<4>())); break;
      case opcode::kShortBinUnicode: push_text(in_.number<1>()); break;
      case opcode::kMark: marks_.push_back(stack_.size()); break;
      case opcode::kTuple1: push_tuple_or_size(1); break;
      case opcode::kTuple2: push_tuple_or_size(2); break;
      case opcode::kTuple3: push_tuple_or_size(3); break;
      case opcode::kTuple: push_tuple_or_size(above_mark()); break;
      case opcode::kReduce: reduce(); break;
      case opcode::kEmptyTuple: push(Value(Tag::kTuple, Values::kNoMore)); break;
      case opcode::kNewObj: new_object(); break;
      case opcode::kEmptyDict: push_container(Tag::kDict); break;
      case opcode::kSetItems: set_items_or_build(above_mark()); break;
      case opcode::kSetItem: set_items(2); break;
      case opcode::kBuild: build(); break;
      case opcode::kNone: push(Value(Tag::kNone)); break;
      case opcode::kNewTrue: push(Value(Tag::kTrue)); break;
      case opcode::kNewFalse: push(Value(Tag::kFalse)); break;
      case opcode::kLong1: push_long(in_.number<1>()); break;
      case opcode::kFrame: frame(); break;
      case opcode::kAppends: append(above_mark()); break;
      case opcode::kAppend: append(1); break;
      case opcode::kEmptyList: push_container(Tag::kList); break;
      case opcode::kBinPut: put(in_.number<1>()); break;
      case opcode::kLongBinPut: put(in_.number<4>()); break;
      case opcode::kStop: return false;
      default: rare_step(code);
    }
    return true;
  }

  void rare_step(std::uint8_t code) {
    switch (code) {
      case opcode::kProto: protocol(); break;
      case opcode::kGlobal: named_global(); break;
      case opcode::kStackGlobal: stack_global(); break;
      case opcode::kBinUnicode: push_text(in_.number<4>()); break;
      case opcode::kBinUnicode8: push_text(in_.number<8>()); break;
      case opcode::kShortBinBytes: push_bytes(Tag::kBytes, in_.number<1>()); break;
      case opcode::kBinBytes: push_bytes(Tag::kBytes, in_.number<4>()); break;
      case opcode::kBinBytes8: push_bytes(Tag::kBytes, in_.number<8>()); break;
      case opcode::kByteArray8: push_bytes(Tag::kByteArray, in_.number<8>()); break;
      case opcode::kLong4: push_long(in_.number<4>()); break;
      case opcode::kBinFloat: push_float(); break;
      case opcode::kEmptySet: push_container(Tag::kSet); break;
      case opcode::kAddItems: add_items(); break;
      case opcode::kFrozenSet: frozen_set(); break;
      case opcode::kPop: drop(); break;
      case opcode::kPopMark: stack_.resize(stack_.size() - above_mark()); break;
      case opcode::kDup: push(pinned(top())); break;
      default: tensor_step(code);
    }
  }

  /// Opcodes that only the tensor dialect accepts, and unsupported ones.
  void tensor_step(std::uint8_t code) {
    if (!dialect_.is_tensor) {
      fail("has opcode " + std::to_string(code) + ", which checkpoint metadata does not use");
    }
    if (code == opcode::kBinPersId) {
      const Value id = pop();
      if (id.tag() != Tag::kTuple) fail("has a persistent id that is not a tuple");
      push(Value(Tag::kCall, values_.calls.size()));
      values_.calls.push_back({Values::Call::kPersistentId, id});
      return;
    }
    // Valid opcodes not handled above: protocols 0 and 1, other objects, out-of-band buffers.
    constexpr std::string_view kOthers = "FILPSTUVdgilop\x82\x83\x84\x92\x97\x98";
    const bool known = kOthers.find(static_cast<char>(code)) != std::string_view::npos;
    if (!known) fail("has unknown opcode " + std::to_string(code));
    unsupported("has opcode " + std::to_string(code) + ", which a plain tensor does not use");
  }

  [[noreturn]] void unsupported(const std::string& what) const {
    throw UnreadPickle(what + ", " + in_.where());
  }

  // Plain values.

  void protocol() {
    const std::uint64_t version = in_.number<1>();
    if (version < 2 || version > 5) {
      fail("has pickle protocol " + std::to_string(version) + ", which is not 2 to 5");
    }
  }

  void frame() {
    const std::uint64_t length = in_.number<8>();
    const std::uint64_t begin = in_.position();
    end_of_frames_ =
        std::max(end_of_frames_, length > UINT64_MAX - begin ? UINT64_MAX : begin + length);
  }

  void push_long(std::uint64_t length) {
    const std::string_view bytes = in_.bytes(length);
    if (length > 8) {
      push(Value(Tag::kHugeInt, values_.bytes.size()));
      values_.bytes.emplace_back(bytes);
      return;
    }
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      number |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(bytes[i])) << (8 * i);
    }
    const std::size_t unused = 64 - 8 * bytes.size();
    push_int(bytes.empty() ? 0 : static_cast<std::int64_t>(number << unused) >> unused);
  }

  void push_float() {
    std::uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits = bits << 8 | in_.number<1>();
    push(Value(Tag::kFloat, values_.floats.size()));
    values_.floats.push_back(std::bit_cast<double>(bits));
  }

  void push_text(std::uint64_t length) {
    push(Value(Tag::kText, values_.texts.number_of(in_.bytes(length))));
  }

  void push_bytes(Tag tag, std::uint64_t length) {
    push(Value(tag, values_.bytes.size()));
    values_.bytes.emplace_back(in_.bytes(length));
  }

  // Containers.

  /// Pops `count` values and appends them to the container below, whose tag must be in `to`.
  void extend_below(std::size_t count, std::initializer_list<Tag> to, const char* what) {
    if (count >= free()) fail_pop(count + 1);
    const Value made = stack_[stack_.size() - count - 1];
    if (std::ranges::find(to, made.tag()) == to.end()) fail(what);
    extend(made, stack_.data() + stack_.size() - count, count);
    stack_.resize(stack_.size() - count);
  }

  void append(std::size_t count) {
    extend_below(count, {Tag::kList}, "appends to a value that is not a list");
  }

  void set_items(std::size_t count) {
    if (count % 2 != 0) fail("sets a dict key without a value");
    extend_below(count, {Tag::kDict, Tag::kOrderedDict},
                 "sets an item of a value that is not a dict");
  }

  void add_items() { extend_below(above_mark(), {Tag::kSet}, "adds to a value that is not a set"); }

  void frozen_set() {
    push_tuple(above_mark());
    const Value made = pop();
    push(Value(Tag::kFrozenSet, made.at()));
  }

  // Globals, objects and calls.

  void named_global() {
    const std::string module(in_.line());
    push_global({module, std::string(in_.line())});
  }

  void stack_global() {
    const Value name = pop();
    const Value module = pop();
    if (name.tag() != Tag::kText || module.tag() != Tag::kText) {
      fail("names a global by a value that is not a string");
    }
    push_global({std::string(values_.texts[module.at()]), std::string(values_.texts[name.at()])});
  }

  void push_global(Global global) {
    // The length makes the key unambiguous.
    const std::uint32_t number = by_name_.number_of(std::to_string(global.module.size()) + ' ' +
                                                    global.module + global.name);
    if (number == values_.globals.size()) {
      const Role role = dialect_.role_of(global.module, global.name);
      if (role == Role::kUnknown) throw unknown(global);
      values_.globals.push_back(std::move(global));
      roles_.push_back(role);
    }
    push(Value(Tag::kGlobal, number));
  }

  UnreadPickle unknown(const Global& global) const {
    return UnreadPickle("names the global " + util::printable(global.module) + "." +
                        util::printable(global.name) + ", " + dialect_.no_role + ", " +
                        in_.where());
  }

  Role role(Value global) const {
    return global.tag() == Tag::kGlobal ? roles_[global.at()] : Role::kUnknown;
  }

  void new_object() {
    const Value arguments = pop();
    const Value cls = pop();
    const Role is = role(cls);
    const bool made_bare =
        is == Role::kObject || is == Role::kChunk || is == Role::kIndex || is == Role::kLocation;
    if (!made_bare || arguments.tag() != Tag::kTuple || values_.count(arguments) != 0) {
      fail("creates an object from a value that is not a class, or with arguments");
    }
    push(Value(Tag::kObject, values_.objects.size()));
    values_.objects.push_back({static_cast<std::uint32_t>(cls.at()), false, memo_.size(), {}});
  }

  void reduce() {
    const Value arguments = pop();
    const Value callable = pop();
    if (arguments.tag() != Tag::kTuple) fail("calls with arguments that are not a tuple");
    switch (role(callable)) {
      case Role::kSize: push_size(arguments); break;
      case Role::kCall:
        push(Value(Tag::kCall, values_.calls.size()));
        values_.calls.push_back({static_cast<std::uint32_t>(callable.at()), arguments});
        break;
      case Role::kList: push_filled(Tag::kList, arguments); break;
      case Role::kSet: push_filled(Tag::kSet, arguments); break;
      case Role::kFrozenSet: push_filled(Tag::kFrozenSet, arguments); break;
      case Role::kDict: push_filled(Tag::kDict, arguments); break;
      case Role::kOrderedDict: push_filled(Tag::kOrderedDict, arguments); break;
      default: fail("calls a value that is not callable");
    }
  }

  /// Pushes a container created with no argument or with one: a dict for dicts, otherwise a list or
  /// a tuple.
  void push_filled(Tag tag, Value arguments) {
    std::vector<Value> items;
    if (values_.holds_more_than(arguments, 1)) {
      fail("creates a container with " + util::grouped(values_.count(arguments)) + " arguments");
    }
    if (const auto given = values_.front(arguments)) {
      const bool is_dict = tag == Tag::kDict || tag == Tag::kOrderedDict;
      const Tag from = given->tag();
      if (is_dict ? from != Tag::kDict : from != Tag::kList && from != Tag::kTuple) {
        fail("creates a container from a value that is not one");
      }
      check_room(values_.count(*given));
      values_.for_each(*given, [&](Value value) { items.push_back(value); });
    }
    push(container(tag, items));
  }

  // Records. A record replaces the tuples and dicts from which its object is built.

  /// Pushes a tuple, or directly the torch.Size that the next opcodes create from it.
  void push_tuple_or_size(std::size_t count) {
    // [TUPLE] MEMOIZE TUPLE1 MEMOIZE REDUCE, and the same without MEMOIZE.
    constexpr std::string_view kMemoized = "\x94\x85\x94R";
    constexpr std::string_view kPlain = "\x85R";
    if (count >= free() || count > kMaxDimsOfSize ||
        role(stack_[stack_.size() - count - 1]) != Role::kSize) {
      push_tuple(count);
      return;
    }
    const std::size_t first = values_.numbers.size();
    for (std::size_t at = stack_.size() - count; at < stack_.size(); ++at) {
      if (stack_[at].tag() != Tag::kInt) {
        values_.numbers.resize(first);
        push_tuple(count);
        return;
      }
      values_.numbers.push_back(stack_[at].number());
    }
    const Value size = Value::of_size(first, count);
    if (in_.take(kMemoized)) {
      stack_.back() = Value(Tag::kTupleOfSize, size.at());
      memoize();
      stack_.back() = Value(Tag::kArgumentsOfSize, size.at());
      memoize();
    } else if (!in_.take(kPlain)) {
      values_.numbers.resize(first);
      push_tuple(count);
      return;
    }
    stack_.resize(stack_.size() - count - 1);
    push(size);
  }

  /// Pushes a torch.Size. `arguments` must hold one tuple or list of ints.
  void push_size(Value arguments) {
    const std::size_t first = values_.numbers.size();
    const auto given = values_.front(arguments);
    if (!given || values_.holds_more_than(arguments, 1) ||
        (given->tag() != Tag::kTuple && given->tag() != Tag::kList)) {
      fail("creates a torch.Size from a value that is not a tuple");
    }
    if (values_.holds_more_than(*given, kMaxDimsOfSize)) {
      unsupported("has a torch.Size of " + util::grouped(values_.count(*given)) +
                  " dims (the limit is " + std::to_string(kMaxDimsOfSize) + ")");
    }
    check_room(values_.count(*given));
    values_.for_each(*given, [&](Value value) {
      if (value.tag() != Tag::kInt && value.tag() != Tag::kWideInt) {
        fail("has a torch.Size with a value that is not a 64-bit int");
      }
      values_.numbers.push_back(value.tag() == Tag::kInt ? value.number()
                                                         : values_.ints[value.at()]);
    });
    push(Value::of_size(first, values_.numbers.size() - first));
  }

  void build() {
    const Value state = pop();
    Value& object = top();
    if (dialect_.is_tensor) unsupported("sets attributes of an object");
    if (object.tag() != Tag::kObject || values_.objects[object.at()].built) {
      fail("sets the state of a value that has none");
    }
    const bool is_record = roles_[values_.objects[object.at()].global] != Role::kObject;
    // Records have at most three attributes. Larger states are not copied: many objects may share
    // one.
    if (is_record && state.tag() == Tag::kDict && !values_.holds_more_than(state, std::size_t{6})) {
      std::vector<Value> items;
      values_.for_each(state, [&](Value value) { items.push_back(value); });
      if (build_record(object, state, items)) return;
    }
    values_.objects[object.at()].built = true;
    values_.objects[object.at()].state = state;
  }

  /// Sets items of a dict, or directly builds the record if the dict is the state of one.
  void set_items_or_build(std::size_t count) {
    const std::size_t dict = stack_.size() - count - 1;
    const bool fresh = free() >= count + 2 && stack_[dict].tag() == Tag::kDict &&
                       is_last_span(stack_[dict]) && values_.spans[stack_[dict].at()].count == 0;
    if (fresh && in_.take("b")) {
      if (build_record(stack_[dict - 1], stack_[dict], {stack_.data() + dict + 1, count})) {
        stack_.resize(dict);
        return;
      }
      in_.give_back(1);
    }
    set_items(count);
  }

  /// Replaces `object` by a record with the attributes `items`. Returns false if the object or its
  /// state has no record form; nothing is changed then.
  bool build_record(Value& object, Value state, std::span<const Value> items) {
    if (object.tag() != Tag::kObject || object.at() + 1 != values_.objects.size() ||
        object.at() < pinned_objects_ || values_.objects[object.at()].built) {
      return false;
    }
    const std::size_t memoized = values_.objects[object.at()].memo;
    if (memo_.size() - memoized > kMaxMemoized) return false;
    const Role is = roles_[values_.objects[object.at()].global];
    Value record;
    Value memo_state;
    if (is == Role::kChunk && add_chunk(items)) {
      record = Value(Tag::kChunk, values_.chunks.size() - 1);
      memo_state = Value(Tag::kStateOfChunk, record.at());
    } else if (is == Role::kIndex && add_index(items)) {
      record = Value(Tag::kIndex, values_.indices.size() - 1);
      memo_state = Value(Tag::kStateOfIndex, record.at());
    } else if (is == Role::kLocation && add_location(items)) {
      record = Value(Tag::kLocation, values_.locations.size() - 1);
      memo_state = Value(Tag::kStateOfLocation, record.at());
    } else {
      return false;
    }
    if (is_last_span(state)) {
      replace_in_memo(state, memo_state, memoized);
      drop_span(state);
    }
    replace_in_memo(object, record, memoized);
    values_.objects.truncate(object.at());
    object = record;
    return true;
  }

  /// Reads the values of the named attributes. Returns false if there are other or duplicate ones.
  template <std::size_t kCount>
  static bool read_state(std::span<const Value> items, const std::array<Attribute, kCount>& names,
                         std::array<Value, kCount>& out) {
    out.fill(Value(Tag::kUnset));
    if (items.size() % 2 != 0) return false;
    for (std::size_t at = 0; at < items.size(); at += 2) {
      const Value key = items[at];
      const auto name = std::ranges::find_if(names, [&](Attribute one) { return one == key.at(); });
      if (key.tag() != Tag::kText || name == names.end()) return false;
      Value& value = out[static_cast<std::size_t>(name - names.begin())];
      if (value.tag() != Tag::kUnset) return false;
      value = items[at + 1];
    }
    return true;
  }

  bool add_chunk(std::span<const Value> items) {
    std::array<Value, 2> read;
    if (!read_state<2>(items, {kOffsets, kSizes}, read) || read[0].tag() != Tag::kSize ||
        read[1].tag() != Tag::kSize) {
      return false;
    }
    values_.chunks.push_back({read[0], read[1]});
    return true;
  }

  bool add_index(std::span<const Value> items) {
    std::array<Value, 3> read;
    if (!read_state<3>(items, {kFqn, kChunkIndex, kOffset}, read) || read[0].tag() != Tag::kText) {
      return false;
    }
    const bool has_indices = read[1].tag() == Tag::kInt && read[1].number() >= 0;
    if (!has_indices && read[1].tag() != Tag::kNone) return false;
    if (read[2].tag() != Tag::kSize && read[2].tag() != Tag::kUnset) return false;
    values_.indices.push_back({static_cast<std::uint32_t>(read[0].at()), read[2], read[1]});
    return true;
  }

  bool add_location(std::span<const Value> items) {
    std::array<Value, 3> read;
    if (!read_state<3>(items, {kPath, kOffset, kLength}, read) || read[0].tag() != Tag::kText ||
        read[1].tag() != Tag::kInt || read[2].tag() != Tag::kInt) {
      return false;
    }
    values_.locations.push_back(
        {static_cast<std::uint32_t>(read[0].at()), read[1].number(), read[2].number()});
    return true;
  }

  // Limit on memo entries added while a record is built; pickles written by Python add less
  // than 32.
  static constexpr std::size_t kMaxMemoized = 64;

  const Dialect& dialect_;
  std::vector<Role> roles_;  // per global
  util::TextTable by_name_;  // numbers of globals, by module and name
  std::uint64_t end_of_frames_ = 0;
};

}  // namespace

Pickle read_pickle(const Source& source, const Dialect& dialect) {
  return Machine(source, dialect).run();
}

}  // namespace shardplan::pickle
