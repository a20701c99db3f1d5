#include "core/data/tensor_pickle.h"

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "core/pickle/encoding.h"
#include "core/pickle/opcodes.h"
#include "core/pickle/torch_dtypes.h"
#include "core/util/little_endian.h"

namespace shardplan::data {
namespace {

namespace opcode = pickle::opcode;

/// Writes protocol 2 as Python's C pickler does: it memoizes every string, tuple, global and
/// result, except for ints, booleans and the empty tuple.
class TensorPickler {
 public:
  TensorPickler() {
    code(opcode::kProto);
    code(2);
  }

  void code(std::uint8_t opcode) { out_.push_back(static_cast<char>(opcode)); }

  void global(std::string_view module, std::string_view name) {
    code(opcode::kGlobal);
    out_.append(module).append("\n").append(name).append("\n");
    memoize();
  }

  void text(std::string_view text) {
    code(opcode::kBinUnicode);
    util::append_little_endian(out_, text.size(), 4);
    out_.append(text);
    memoize();
  }

  void number(std::int64_t number) { pickle::append_number(out_, number); }

  void numbers(std::span<const std::int64_t> values) {
    pickle::append_tuple(out_, values);
    if (!values.empty()) memoize();
  }

  void memoize() {
    code(opcode::kBinPut);
    code(memo_++);
  }

  std::string take() { return std::move(out_); }

 private:
  std::string out_;
  std::uint8_t memo_ = 0;  // a tensor has 13 values at most
};

}  // namespace

std::string pickle_of_tensor(const StoredTensor& tensor) {
  const std::string_view storage = pickle::storage_of_dtype(tensor.dtype);
  if (pickle::dtype_size(tensor.dtype) == 0) return {};
  const bool is_new = storage.empty();  // dtypes without a typed storage
  const std::uint64_t elements =
      is_new ? tensor.storage_size : tensor.storage_size / tensor.element_size;

  TensorPickler pickler;
  pickler.global("torch._utils", is_new ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
  pickler.code(opcode::kMark);
  pickler.code(opcode::kMark);
  pickler.text("storage");
  if (is_new) {
    pickler.global("torch.storage", "UntypedStorage");
  } else {
    pickler.global("torch", storage);
  }
  pickler.text("0");
  pickler.text("cpu");
  pickler.number(static_cast<std::int64_t>(elements));
  pickler.code(opcode::kTuple);
  pickler.memoize();
  pickler.code(opcode::kBinPersId);
  pickler.number(tensor.storage_offset);
  pickler.numbers(tensor.shape);
  pickler.numbers(tensor.strides);
  pickler.code(opcode::kNewFalse);
  pickler.global("collections", "OrderedDict");
  pickler.code(opcode::kEmptyTuple);
  pickler.code(opcode::kReduce);
  pickler.memoize();
  if (is_new) pickler.global("torch", tensor.dtype);
  pickler.code(opcode::kTuple);
  pickler.memoize();
  pickler.code(opcode::kReduce);
  pickler.memoize();
  pickler.code(opcode::kStop);
  return pickler.take();
}

}  // namespace shardplan::data
