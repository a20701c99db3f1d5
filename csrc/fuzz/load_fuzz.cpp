// Loads boxes of stored tensors: any layout, any sizes of reads, files that are damaged or too
// short. What is read equals a copy element by element; memory outside the targets does not change.

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/data/load_execution.h"
#include "core/data/part_check.h"
#include "data/row_major_sink.h"
#include "data/zip_parts.h"
#include "fuzz_input.h"

namespace shardplan::fuzz {
namespace {

using Numbers = std::vector<std::int64_t>;

constexpr char kGuard = '\x5A';

class Memory final : public data::Source {
 public:
  Memory(const std::string& bytes, bool lends) : bytes_(bytes), lends_(lends) {}

  std::size_t read_at(std::uint64_t offset, char* into, std::size_t count) const override {
    return testing::part_of(bytes_)(offset, into, count);
  }
  std::optional<data::LentBytes> lend(std::uint64_t offset, std::size_t count) const override {
    if (!lends_) return std::nullopt;
    const auto bytes = std::make_shared<std::string>(count, '\0');
    bytes->resize(read_at(offset, bytes->data(), count));
    return data::LentBytes{bytes, bytes->data(), bytes->size()};
  }

 private:
  const std::string& bytes_;
  bool lends_;
};

struct Tensor {
  Numbers shape;
  Numbers strides;
  std::int64_t offset = 0;
  std::string storage;
  std::uint64_t begin = 0;
  std::uint64_t length = 0;
};

std::int64_t count_of(const Numbers& lengths) {
  std::int64_t count = 1;
  for (const std::int64_t length : lengths) count *= length;
  return count;
}

Tensor tensor_from(Input& input, std::string& file) {
  Tensor made;
  std::int64_t elements = 1;
  for (std::int64_t ndim = input.between(0, 3); ndim > 0; --ndim) {
    made.shape.push_back(input.between(0, 6));
    made.strides.push_back(input.between(0, 9));
    elements += std::max<std::int64_t>(0, made.shape.back() - 1) * made.strides.back();
  }
  made.offset = input.between(0, 3);
  elements += made.offset;
  for (std::int64_t at = 0; at < elements; ++at) {
    made.storage += testing::little_endian(static_cast<std::uint64_t>(at) * 2654435761U, 4);
  }
  testing::PickledTensor pickle;
  pickle.elements = testing::pickled_int(static_cast<int>(elements));
  pickle.offset = testing::pickled_int(static_cast<int>(made.offset));
  pickle.shape.clear();
  pickle.strides.clear();
  for (std::size_t dim = 0; dim < made.shape.size(); ++dim) {
    pickle.shape += testing::pickled_int(static_cast<int>(made.shape[dim]));
    pickle.strides += testing::pickled_int(static_cast<int>(made.strides[dim]));
  }
  file += std::string(input.byte(), 'g');
  made.begin = file.size();
  const std::string part = testing::tensor_part(pickle.pickle(), made.storage);
  made.length = part.size();
  file += part;
  return made;
}

/// Returns the bytes of a box in row-major order, one element at a time; nothing if the tensor does
/// not have the box. A dim that is read in full begins at 0.
std::optional<std::string> expected(const Tensor& tensor, const Numbers& offsets,
                                    const Numbers& lengths) {
  if (lengths.size() != tensor.shape.size()) return std::nullopt;
  for (std::size_t dim = 0; dim < lengths.size(); ++dim) {
    if (lengths[dim] != tensor.shape[dim] && offsets[dim] + lengths[dim] > tensor.shape[dim]) {
      return std::nullopt;
    }
  }
  std::string bytes;
  const std::int64_t count = count_of(lengths);
  for (std::int64_t at = 0; at < count; ++at) {
    std::int64_t left = at;
    std::int64_t element = tensor.offset;
    for (std::size_t dim = lengths.size(); dim-- > 0;) {
      const std::int64_t from = lengths[dim] == tensor.shape[dim] ? 0 : offsets[dim];
      element += (from + left % lengths[dim]) * tensor.strides[dim];
      left /= lengths[dim];
    }
    bytes += tensor.storage.substr(static_cast<std::size_t>(element) * 4, 4);
  }
  return bytes;
}

data::ReadSizes sizes_from(Input& input) {
  data::ReadSizes sizes;
  sizes.max_block = static_cast<std::uint64_t>(input.between(1, 16)) << 8;
  sizes.max_whole_part = static_cast<std::uint64_t>(input.between(0, 16)) << 7;
  sizes.max_spare_part = static_cast<std::uint64_t>(input.between(0, 16)) << 6;
  sizes.part_end = static_cast<std::uint64_t>(input.between(1, 200)) << 3;
  sizes.page = std::uint64_t{1} << input.between(0, 12);
  sizes.max_read = static_cast<std::uint64_t>(input.between(1, 100));
  sizes.max_scattered = static_cast<std::uint64_t>(input.between(1, 200));
  return sizes;
}

void run(Input input) {
  std::string file;
  std::vector<Tensor> tensors;
  for (std::int64_t count = input.between(1, 4); count > 0; --count) {
    tensors.push_back(tensor_from(input, file));
  }
  std::vector<Numbers> boxes;
  std::vector<std::size_t> tensor_of;
  for (std::int64_t count = input.between(0, 6); count > 0; --count) {
    tensor_of.push_back(static_cast<std::size_t>(input.byte()) % tensors.size());
    const Tensor& tensor = tensors[tensor_of.back()];
    Numbers offsets;
    Numbers lengths;
    for (const std::int64_t size : tensor.shape) {
      offsets.push_back(input.between(0, size));
      lengths.push_back(input.between(0, size - offsets.back() + (input.byte() % 16 == 0 ? 1 : 0)));
    }
    boxes.push_back(offsets);
    boxes.push_back(lengths);
    Numbers strides(lengths.size());
    std::int64_t stride = 1;
    for (std::size_t dim = lengths.size(); dim-- > 0;) {
      strides[dim] = stride;
      stride *= std::max<std::int64_t>(1, lengths[dim]);
    }
    boxes.push_back(strides);
  }
  std::vector<std::string> targets;
  for (std::size_t at = 0; at < tensor_of.size(); ++at) {
    targets.emplace_back(static_cast<std::size_t>(count_of(boxes[3 * at + 1])) * 4, kGuard);
  }
  std::vector<data::ReadRequest> requests;
  for (std::size_t at = 0; at < tensor_of.size(); ++at) {
    data::ReadRequest request;
    request.begin = tensors[tensor_of[at]].begin;
    request.length = tensors[tensor_of[at]].length;
    request.offsets = boxes[3 * at];
    request.lengths = boxes[3 * at + 1];
    request.target_strides = boxes[3 * at + 2];
    request.dtype = "float32";
    request.element_size = 4;
    if (input.byte() % 4 != 0) request.target = targets[at].data();
    requests.push_back(request);
  }
  const bool lends = input.byte() % 2 == 0;
  data::LoadOptions options;
  options.threads = static_cast<std::size_t>(input.between(1, 2));
  options.verify = input.byte() % 2 == 0;
  options.sizes = sizes_from(input);
  if (lends) options.max_in_flight = static_cast<std::uint64_t>(input.between(1, 255)) << 4;
  const bool damaged = input.byte() % 2 == 0;
  if (damaged) {
    for (std::int64_t count = input.between(0, 4); count > 0; --count) {
      const std::size_t at = (static_cast<std::size_t>(input.byte()) << 8 | input.byte());
      file[at % file.size()] = static_cast<char>(input.byte());
    }
    if (input.byte() % 4 == 0) file.resize(file.size() * input.byte() / 255);
  }

  const auto source = std::make_shared<Memory>(file, lends);
  options.open = [&](std::uint32_t) { return source; };
  options.make_sink = [&] {
    return std::make_unique<testing::RowMajorSink>(requests, targets, 64);
  };
  const data::LoadResult result = data::load(requests, options);

  expect(damaged || result.error == nullptr, "a sound file is not read");
  std::size_t unread = 0;
  for (std::size_t at = 0; at < requests.size(); ++at) {
    const auto box = expected(tensors[tensor_of[at]], boxes[3 * at], boxes[3 * at + 1]);
    const bool is_read = result.outcomes[at] == data::Outcome::kRead;
    unread += result.outcomes[at] == data::Outcome::kUnread ? 1 : 0;
    if (!damaged) {
      expect(is_read == box.has_value(),
             "a box is read that the tensor does not have, or not read");
      expect(!is_read || targets[at] == *box, "a box differs from a copy element by element");
    }
    const bool is_written = is_read || result.outcomes[at] == data::Outcome::kBegun;
    expect(is_written || targets[at].find_first_not_of(kGuard) == std::string::npos,
           "a target is written that was not reached");
    expect(result.error != nullptr || is_read || result.outcomes[at] == data::Outcome::kUnread,
           "a request is forgotten");
  }
  expect(unread == result.unread.size(), "an unread request has no reason");

  std::vector<data::ExpectedPart> parts;
  for (const Tensor& tensor : tensors) {
    parts.push_back({tensor.begin, tensor.length, true, tensor.shape, "float32"});
  }
  data::CheckOptions check;
  check.sizes = options.sizes;
  const std::vector<std::size_t> unsound = data::find_unsound(source, parts, check);
  expect(damaged || unsound.empty(), "a sound part is unsound");
}

}  // namespace
}  // namespace shardplan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  shardplan::fuzz::run({data, size});
  return 0;
}
