// Reads stored parts. Any file is read or rejected with BadPart; everything read lies within the
// file. Inputs are parts, pickles of tensors, which are wrapped in a part, or edits of sound parts.

#include <string>
#include <utility>
#include <vector>

#include "core/data/tensor_part.h"
#include "data/zip_parts.h"
#include "edits.h"
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

std::string part_of(Input& input) {
  testing::PickledTensor tensor;
  std::int64_t elements = 1;
  tensor.shape.clear();
  tensor.strides.clear();
  for (std::int64_t ndim = input.between(0, 3); ndim > 0; --ndim) {
    const std::int64_t size = input.between(0, 5);
    tensor.shape += testing::pickled_int(static_cast<std::int32_t>(size));
    tensor.strides += testing::pickled_int(static_cast<std::int32_t>(elements));
    elements *= size;
  }
  tensor.elements = testing::pickled_int(static_cast<std::int32_t>(elements));
  std::string pickle = edited(tensor.pickle(), input);
  std::vector<testing::ZippedMember> members = testing::members_of(
      std::move(pickle), std::string(static_cast<std::size_t>(elements) * 4, 'x'));
  for (testing::ZippedMember& member : members) {
    const std::uint8_t form = input.byte();
    member.sizes_follow = form % 4 != 0;
    member.wide = form % 8 == 1;
    if (form >= 250) member.more_size = form - std::uint64_t{249};
  }
  testing::ZippedEnd end;
  end.wide = input.byte() % 4 != 0;
  return edited(testing::zipped(members, end), input);
}

void run(Input input) {
  const std::size_t choice = input.byte();
  if (choice >= 128) return read(part_of(input), choice % 128 + 1);
  const std::string bytes(input.rest());
  read(choice % 2 == 0 ? bytes : testing::tensor_part(bytes), choice / 2 + 1);
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}
