// Reads the headers of safetensors files. Any file is read or rejected with BadPart; the data of
// all tensors lie within the file, and do not overlap. The header's size comes from the input in
// some inputs; in others it is right, and the data are as long as the input says; in others a sound
// header is edited.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/data/safetensors_file.h"
#include "data/zip_parts.h"
#include "edits.h"
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

std::string file_of(Input& input) {
  std::string text = "{";
  std::int64_t end = 0;
  for (std::int64_t count = input.between(0, 5); count > 0; --count) {
    const bool wide = input.byte() % 2 == 0;
    std::int64_t size = wide ? 4 : 2;
    std::string shape;
    for (std::int64_t ndim = input.between(0, 3); ndim > 0; --ndim) {
      const std::int64_t length = input.between(0, 4);
      size *= length;
      shape += (shape.empty() ? "" : ",") + std::to_string(length);
    }
    text += (text.size() == 1 ? "\"t" : ",\"t") + std::to_string(count) + "\":{\"dtype\":\"" +
            (wide ? "F32" : "BF16") + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
            std::to_string(end) + "," + std::to_string(end + size) + "]}";
    end += size;
  }
  text = edited(text + "}", input);
  return testing::little_endian(text.size(), 8) + text +
         std::string(static_cast<std::size_t>(end), 'x');
}

void run(Input input) {
  const std::size_t choice = input.byte();
  if (choice >= 128) return read(file_of(input), choice % 128 + 1);
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
