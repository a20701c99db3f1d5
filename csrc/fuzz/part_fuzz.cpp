// Reads stored parts. Any file is read or rejected with BadPart; everything read lies within the
// file. Half of the inputs are parts, half are pickles of tensors, which are wrapped in a part.

#include <string>

#include "core/data/tensor_part.h"
#include "data/zip_parts.h"
#include "fuzz_input.h"

namespace shardplan::fuzz {
namespace {

void read(const std::string& bytes, std::size_t at_once) {
  const data::PartBytes source = testing::part_of(bytes, at_once);
  try {
    const data::ZipPart part(source, bytes.size());
    std::uint64_t end = 0;
    for (const data::ZipMember& member : part.members()) {
      expect(member.header >= end && member.begin >= member.header &&
                 member.begin <= bytes.size() && member.size <= bytes.size() - member.begin,
             "a member is outside the part or overlaps another");
      end = member.begin + member.size;
      data::checksum_of(source, member);
    }
    const data::StoredTensor tensor = data::read_tensor_part(source, part);
    expect(tensor.shape.size() == tensor.strides.size(), "numbers of dims and strides differ");
    expect(tensor.storage_begin <= bytes.size() &&
               tensor.storage_size <= bytes.size() - tensor.storage_begin,
           "a storage is outside the part");
    expect(tensor.begin >= tensor.storage_begin &&
               tensor.begin - tensor.storage_begin <= tensor.storage_size &&
               tensor.reach <= tensor.storage_size - (tensor.begin - tensor.storage_begin),
           "a tensor is outside its storage");
  } catch (const data::BadPart&) {
  }
}

void run(Input input) {
  const std::size_t choice = input.byte();
  const std::string bytes(input.rest());
  read(choice % 2 == 0 ? bytes : testing::tensor_part(bytes), choice / 2 + 1);
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}
