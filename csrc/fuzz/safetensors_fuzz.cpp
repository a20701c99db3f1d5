// Reads the headers of safetensors files. Any file is read or rejected with BadPart; the data of
// all tensors lie within the file, and do not overlap. The header's size comes from the input in
// half of the inputs; in the other half it is right, and the data are as long as the input says.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/data/safetensors_file.h"
#include "data/zip_parts.h"
#include "fuzz_input.h"

namespace shardplan::fuzz {
namespace {

void read(const std::string& bytes, std::size_t at_once) {
  try {
    const data::SafetensorsFile file(testing::part_of(bytes, at_once), bytes.size());
    std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
    for (std::size_t at = 0; at < file.entries().size(); ++at) {
      const data::SafetensorsEntry& entry = file.entries()[at];
      expect(file.find(file.name(at)) == &entry, "a tensor is not found by its name");
      expect(entry.tensor.shape.size() == entry.tensor.strides.size(),
             "numbers of dims and strides differ");
      expect(entry.begin <= bytes.size() && entry.tensor.reach <= bytes.size() - entry.begin,
             "a tensor is outside the file");
      std::uint64_t size = entry.tensor.element_size;
      for (const std::int64_t length : entry.tensor.shape) {
        size *= static_cast<std::uint64_t>(length);
      }
      expect(entry.tensor.dtype.empty() || size == entry.tensor.reach,
             "a tensor does not have the size of its shape");
      ranges.emplace_back(entry.begin, entry.begin + entry.tensor.reach);
    }
    std::ranges::sort(ranges);
    for (std::size_t at = 1; at < ranges.size(); ++at) {
      expect(ranges[at - 1].second <= ranges[at].first, "tensors overlap");
    }
  } catch (const data::BadPart&) {
  }
}

void run(Input input) {
  const std::size_t choice = input.byte();
  const std::size_t data = input.byte();
  const std::string text(input.rest());
  read(choice % 2 == 0 ? text
                       : testing::little_endian(text.size(), 8) + text + std::string(data, 'x'),
       choice / 2 + 1);
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}
