#include "core/data/tensor_part.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "core/pickle/input.h"
#include "core/pickle/machine.h"
#include "core/pickle/torch_dtypes.h"
#include "core/util/checked.h"
#include "core/util/text.h"

namespace shardplan::data {
namespace {

using Tag = pickle::Tag;

[[noreturn]] void fail(const std::string& what, std::uint64_t at) {
  throw BadPart(what + ", at byte " + std::to_string(at));
}
[[noreturn]] void unsupported(const std::string& what, std::uint64_t at) {
  throw UnreadPart("is not a plain tensor: " + what + ", at byte " + std::to_string(at));
}

/// Returns the first 32 bytes of a member, or all if it is shorter.
std::string word_of(const PartBytes& bytes, const ZipMember& member) {
  std::string word(static_cast<std::size_t>(std::min<std::uint64_t>(member.size, 32)), '\0');
  read_part_bytes(bytes, member.begin, word.data(), word.size());
  return word;
}

/// Checks the version as torch's reader does: a number from 1 to 10; text after it is ignored.
void check_version(const PartBytes& bytes, const ZipPart& part) {
  const ZipMember* member = part.find(".data/version");
  if (member == nullptr) member = part.find("version");
  if (member == nullptr) {
    throw UnreadPart("is not a file of torch.save: it has no version");
  }
  const std::string word = word_of(bytes, *member);
  int version = 0;
  for (std::size_t at = 0; at < word.size() && word[at] >= '0' && word[at] <= '9'; ++at) {
    version = std::min(version * 10 + (word[at] - '0'), 1000);
  }
  if (version == 0) {
    fail("has version " + util::printable(word) + ", which is not a number", member->begin);
  }
  if (version > 10) unsupported("it has version " + util::printable(word), member->begin);
}

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

/// Checks the members that torch reads and that do not matter to the tensor.
void check_labels(const PartBytes& bytes, const ZipPart& part) {
  if (const ZipMember* member = part.find(".storage_alignment"); member != nullptr) {
    const std::string word = word_of(bytes, *member);
    const bool is_number =
        !word.empty() && std::ranges::all_of(word, [](char c) { return c >= '0' && c <= '9'; });
    if (!is_number || member->size > 9) {
      fail("has storage alignment " + util::printable(word) + ", which is not a number",
           member->begin);
    }
  }
  if (const ZipMember* member = part.find(".data/serialization_id"); member != nullptr) {
    if (member->size > 64) unsupported("its serialization id is long", member->begin);
    std::string id(static_cast<std::size_t>(member->size), '\0');
    read_part_bytes(bytes, member->begin, id.data(), id.size());
    if (!is_ascii(id)) {
      fail("has serialization id " + util::printable(id) + ", which is not ASCII", member->begin);
    }
  }
}

bool is_big_endian(const PartBytes& bytes, const ZipPart& part) {
  const ZipMember* member = part.find("byteorder");
  if (member == nullptr) return false;
  const std::string order = word_of(bytes, *member);
  if (order != "little" && order != "big") {
    fail("has byte order " + util::printable(order) + ", which is neither little nor big",
         member->begin);
  }
  return order == "big";
}

pickle::Pickle pickle_of(const PartBytes& bytes, const ZipMember& member) {
  if (member.size > kMaxTensorPickle) {
    unsupported("its pickle has " + util::grouped(member.size) + " bytes (the limit is " +
                    util::grouped(kMaxTensorPickle) + ")",
                member.begin);
  }
  std::uint64_t done = 0;
  const pickle::Source source = [&](char* into, std::size_t at_most) {
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(at_most, member.size - done));
    read_part_bytes(bytes, member.begin + done, into, count);
    done += count;
    return count;
  };
  const std::string where = " of " + util::printable(member.name) + ", which begins at byte " +
                            std::to_string(member.begin) + " of the part";
  try {
    return pickle::read_pickle(source, pickle::kTensorDialect);
  } catch (const pickle::UnreadPickle& problem) {
    throw UnreadPart("is not a plain tensor: its pickle " + std::string(problem.what()) + where);
  } catch (const pickle::BadPickle& problem) {
    throw BadPart("has a pickle that " + std::string(problem.what()) + where);
  }
}

/// Interprets the calls in the pickle of a tensor.
class TensorPickle {
 public:
  TensorPickle(const pickle::Pickle& pickle, std::uint64_t at) : values_(pickle.values), at_(at) {}

  StoredTensor read(pickle::Value root) {
    StoredTensor tensor;
    if (root.tag() != Tag::kCall) unsupported("it is " + kind_of(root), at_);
    if (is_call_of(root, "_rebuild_parameter")) {
      const auto arguments = arguments_of(root, 3, 3);
      tensor.is_parameter = true;
      tensor.requires_grad = truth_of(arguments[1]);
      check_empty(arguments[2], "it has hooks");
      rebuild(arguments[0], tensor);
    } else {
      rebuild(root, tensor);
    }
    return tensor;
  }

  /// Returns the size of the storage in bytes, as the pickle states it.
  std::uint64_t storage_bytes() const { return storage_bytes_; }

 private:
  static constexpr std::size_t kMaxArguments = 8;
  using Arguments = std::array<pickle::Value, kMaxArguments>;

  bool is_call_of(pickle::Value value, std::string_view name) const {
    if (value.tag() != Tag::kCall) return false;
    const std::uint32_t global = values_.calls[value.at()].global;
    return global != pickle::Values::Call::kPersistentId && values_.globals[global].name == name;
  }

  /// Returns the arguments of a call; missing ones are kUnset.
  Arguments arguments_of(pickle::Value call, std::size_t least, std::size_t most) const {
    return items_of(values_.calls[call.at()].arguments, least, most);
  }

  Arguments items_of(pickle::Value tuple, std::size_t least, std::size_t most) const {
    Arguments all;
    all.fill(pickle::Value(Tag::kUnset));
    if (values_.holds_more_than(tuple, most)) {
      fail("has a tensor of more than " + std::to_string(most) + " arguments", at_);
    }
    std::size_t count = 0;
    values_.for_each(tuple, [&](pickle::Value value) { all[count++] = value; });
    if (count < least) {
      fail("has a tensor of fewer than " + std::to_string(least) + " arguments", at_);
    }
    return all;
  }

  void rebuild(pickle::Value value, StoredTensor& tensor) {
    const bool typed = is_call_of(value, "_rebuild_tensor_v2");
    if (!typed && !is_call_of(value, "_rebuild_tensor_v3")) {
      unsupported("it is " + kind_of(value), at_);
    }
    const std::size_t least = typed ? 6 : 7;
    const Arguments arguments = arguments_of(value, least, least + 1);
    read_storage(arguments[0], tensor);
    tensor.storage_offset = number_of(arguments[1], "storage offset");
    tensor.shape = numbers_of(arguments[2], "shape");
    tensor.strides = numbers_of(arguments[3], "strides");
    const bool requires_grad = truth_of(arguments[4]);
    if (!tensor.is_parameter) tensor.requires_grad = requires_grad;
    check_empty(arguments[5], "it has hooks");
    check_empty(arguments[least], "it is lazily conjugated or negated");
    if (!typed) {
      const std::string_view name = constant_of(arguments[6], "dtype");
      if (pickle::dtype_size(name) == 0) fail("has unknown dtype " + util::printable(name), at_);
      tensor.dtype = name;
    }
    tensor.element_size = pickle::dtype_size(tensor.dtype);
    if (tensor.shape.size() != tensor.strides.size()) {
      fail("has " + util::grouped(tensor.shape.size()) + " dims but " +
               util::grouped(tensor.strides.size()) + " strides",
           at_);
    }
  }

  /// Reads a persistent id: ("storage", class, key, device, number of elements).
  void read_storage(pickle::Value value, StoredTensor& tensor) {
    if (value.tag() != Tag::kCall ||
        values_.calls[value.at()].global != pickle::Values::Call::kPersistentId) {
      fail("has a tensor without a storage", at_);
    }
    const Arguments id = items_of(values_.calls[value.at()].arguments, 5, 5);
    if (text_of(id[0], "persistent id kind") != "storage") {
      fail("has a persistent id that is not a storage", at_);
    }
    const std::string_view cls = constant_of(id[1], "storage class");
    const bool untyped = cls == "UntypedStorage";
    if (!untyped && pickle::dtype_of_storage(cls).empty()) {
      fail("has unknown storage class " + util::printable(cls), at_);
    }
    tensor.dtype = untyped ? "uint8" : pickle::dtype_of_storage(cls);
    tensor.storage_key = text_of(id[2], "storage key");
    tensor.device = text_of(id[3], "device");
    if (!is_ascii(tensor.device)) {
      fail("has device " + util::printable(tensor.device) + ", which is not ASCII", at_);
    }
    const auto elements = static_cast<std::uint64_t>(number_of(id[4], "storage size"));
    if (__builtin_mul_overflow(elements, pickle::dtype_size(tensor.dtype), &storage_bytes_)) {
      fail("has a storage of " + util::grouped(elements) +
               " elements, whose size in bytes does not fit 64 bits",
           at_);
    }
  }

  /// Throws UnreadPart with the clause `otherwise` unless the value is None or an empty dict.
  void check_empty(pickle::Value value, const char* otherwise) const {
    if (value.tag() == Tag::kNone || value.tag() == Tag::kUnset) return;
    const bool is_dict = value.tag() == Tag::kDict || value.tag() == Tag::kOrderedDict;
    if (!is_dict || values_.holds_more_than(value, 0)) unsupported(otherwise, at_);
  }

  bool truth_of(pickle::Value value) const {
    if (value.tag() != Tag::kTrue && value.tag() != Tag::kFalse) {
      fail("has a requires_grad that is not a bool", at_);
    }
    return value.tag() == Tag::kTrue;
  }

  std::string_view text_of(pickle::Value value, const char* what) const {
    if (value.tag() != Tag::kText) {
      fail("has a " + std::string(what) + " that is not a string", at_);
    }
    return values_.texts[value.at()];
  }

  std::string_view constant_of(pickle::Value value, const char* what) const {
    if (value.tag() != Tag::kGlobal) {
      fail("has a " + std::string(what) + " that is not a global", at_);
    }
    return values_.globals[value.at()].name;
  }

  std::int64_t number_of(pickle::Value value, const char* what) const {
    const bool wide = value.tag() == Tag::kWideInt;
    if (!wide && value.tag() != Tag::kInt) {
      fail("has a " + std::string(what) + " with a value that is not a 64-bit int", at_);
    }
    const std::int64_t number = wide ? values_.ints[value.at()] : value.number();
    if (number < 0) {
      fail("has a " + std::string(what) + " with negative value " + std::to_string(number), at_);
    }
    return number;
  }

  std::vector<std::int64_t> numbers_of(pickle::Value value, const char* what) const {
    std::vector<std::int64_t> numbers;
    if (value.tag() == Tag::kSize) {
      const auto size = values_.size(value);
      numbers.assign(size.begin(), size.end());
      if (std::ranges::any_of(numbers, [](std::int64_t one) { return one < 0; })) {
        fail("has a " + std::string(what) + " with a negative value", at_);
      }
      return numbers;
    }
    if (value.tag() != Tag::kTuple) {
      fail("has a " + std::string(what) + " that is not a tuple", at_);
    }
    values_.for_each(value, [&](pickle::Value one) { numbers.push_back(number_of(one, what)); });
    return numbers;
  }

  std::string kind_of(pickle::Value value) const {
    switch (value.tag()) {
      case Tag::kCall:
        return values_.calls[value.at()].global == pickle::Values::Call::kPersistentId
                   ? "a storage"
                   : "a tensor within a parameter";
      case Tag::kDict:
      case Tag::kOrderedDict: return "a dict";
      case Tag::kList: return "a list";
      case Tag::kTuple:
      case Tag::kSize: return "a tuple";
      case Tag::kText: return "a string";
      case Tag::kBytes:
      case Tag::kByteArray: return "bytes";
      case Tag::kInt:
      case Tag::kWideInt:
      case Tag::kHugeInt:
      case Tag::kFloat: return "a number";
      case Tag::kNone: return "None";
      default: return "another object";
    }
  }

  const pickle::Values& values_;
  std::uint64_t at_;  // byte offset of the pickle in the part
  std::uint64_t storage_bytes_ = 0;
};

/// Returns the offset in the storage of the end of the tensor, in bytes; nullopt if it does not fit
/// int64.
std::optional<std::uint64_t> end_in_storage(const StoredTensor& tensor) {
  if (std::ranges::find(tensor.shape, 0) != tensor.shape.end()) return 0;
  std::int64_t last = tensor.storage_offset;
  for (std::size_t dim = 0; dim < tensor.shape.size(); ++dim) {
    std::int64_t step = 0;
    if (!util::checked_mul(tensor.shape[dim] - 1, tensor.strides[dim], step) ||
        !util::checked_add(last, step, last)) {
      return std::nullopt;
    }
  }
  std::int64_t end = 0;
  if (!util::checked_add(last, 1, end) ||
      !util::checked_mul(end, static_cast<std::int64_t>(tensor.element_size), end)) {
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(end);
}

}  // namespace

TensorPartReader::Parsed TensorPartReader::parse(const PartBytes& bytes, const ZipMember& pickle) {
  // Pickles of torch.save are shorter: larger ones are not kept, so that memory stays bounded.
  constexpr std::uint64_t kMaxKept = 1024;
  constexpr std::size_t kMaxEntries = 256;
  std::string text;
  if (pickle.size <= kMaxKept) {
    text.resize(static_cast<std::size_t>(pickle.size));
    read_part_bytes(bytes, pickle.begin, text.data(), text.size());
    if (const auto known = parsed_.find(text); known != parsed_.end()) return known->second;
  }
  const pickle::Pickle read = pickle_of(bytes, pickle);
  TensorPickle interpreter(read, pickle.begin);
  Parsed parsed{interpreter.read(read.root), interpreter.storage_bytes()};
  if (pickle.size <= kMaxKept) {
    if (parsed_.size() == kMaxEntries) parsed_.clear();
    parsed_.emplace(std::move(text), parsed);
  }
  return parsed;
}

StoredTensor TensorPartReader::read(const PartBytes& bytes, const ZipPart& part) {
  check_version(bytes, part);
  check_labels(bytes, part);
  if (const ZipMember* script = part.find("constants.pkl"); script != nullptr) {
    unsupported("it is a TorchScript module", script->header);
  }
  const ZipMember* pickled = part.find("data.pkl");
  if (pickled == nullptr) throw UnreadPart("is not a file of torch.save: it has no data.pkl");
  auto [tensor, storage_bytes] = parse(bytes, *pickled);
  tensor.big_endian = is_big_endian(bytes, part);

  const ZipMember* storage = part.find("data/" + tensor.storage_key);
  if (storage == nullptr) {
    fail("has no storage with key " + util::printable(tensor.storage_key), pickled->begin);
  }
  tensor.storage_begin = storage->begin;
  tensor.storage_size = storage_bytes;
  if (tensor.storage_size > storage->size) {
    fail("has a storage of " + util::grouped(tensor.storage_size) + " bytes, but holds only " +
             util::grouped(storage->size) + " of them",
         storage->begin);
  }
  const std::optional<std::uint64_t> end = end_in_storage(tensor);
  if (!end || *end > tensor.storage_size) {
    fail("has a tensor that reaches beyond the " + util::grouped(tensor.storage_size) +
             " bytes of its storage",
         pickled->begin);
  }
  if (tensor.storage_size < storage->size) {
    unsupported("it has " + util::grouped(storage->size) + " bytes for a storage of " +
                    util::grouped(tensor.storage_size),
                storage->begin);
  }
  const std::uint64_t skipped =
      *end == 0 ? 0 : static_cast<std::uint64_t>(tensor.storage_offset) * tensor.element_size;
  tensor.begin = tensor.storage_begin + skipped;
  tensor.reach = *end - skipped;
  return std::move(tensor);
}

StoredTensor read_tensor_part(const PartBytes& bytes, const ZipPart& part) {
  return TensorPartReader().read(bytes, part);
}

}  // namespace shardplan::data
