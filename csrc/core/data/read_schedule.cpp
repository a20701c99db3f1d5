#include "core/data/read_schedule.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

namespace shardplan::data {
namespace {

constexpr std::uint64_t kMaxBytes = std::numeric_limits<std::uint64_t>::max();

/// Returns the end of a request's part, or the maximum if it does not fit.
std::uint64_t end_of(const ReadRequest& request) {
  return request.length > kMaxBytes - request.begin ? kMaxBytes : request.begin + request.length;
}

auto part_of(const ReadRequest& request) {
  return std::tuple(request.file, request.begin, request.length);
}

}  // namespace

std::uint64_t ReadRequest::bytes_wanted() const {
  std::uint64_t bytes = element_size;
  for (const std::int64_t count : lengths) {
    if (count <= 0) return 0;
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(count), &bytes)) return kMaxBytes;
  }
  return bytes;
}

ReadSizes request_sizes(std::uint64_t max_request) {
  constexpr std::uint64_t kMegabyte = std::uint64_t{1} << 20;
  const std::uint64_t most = std::max(max_request, kMegabyte);
  return {
      .max_block = most,
      .max_whole_part = most,
      .max_spare_part = kMegabyte,
      .part_end = std::uint64_t{1} << 14,
      .page = kMegabyte,
      .max_read = most,
      .max_scattered = most,
      .thread = 1,
  };
}

ReadSchedule schedule_reads(std::span<const ReadRequest> requests, const ReadSizes& sizes) {
  ReadSchedule schedule;
  schedule.order.resize(requests.size());
  std::iota(schedule.order.begin(), schedule.order.end(), std::size_t{0});
  const auto comes_before = [&](std::size_t a, std::size_t b) {
    return part_of(requests[a]) < part_of(requests[b]);
  };
  if (!std::ranges::is_sorted(schedule.order, comes_before)) {
    std::ranges::stable_sort(schedule.order, comes_before);
  }
  for (std::size_t at = 0; at < schedule.order.size();) {
    const ReadRequest& request = requests[schedule.order[at]];
    PartTask part{at, 0};
    std::uint64_t wanted = 0;
    for (; at < schedule.order.size(); ++at) {
      const ReadRequest& next = requests[schedule.order[at]];
      if (part_of(next) != part_of(request)) break;
      const std::uint64_t more = next.bytes_wanted();
      wanted = more > kMaxBytes - wanted ? kMaxBytes : wanted + more;
    }
    part.count = at - part.first;
    const bool whole = request.length <= sizes.max_spare_part ||
                       (request.length <= sizes.max_whole_part && wanted >= request.length / 8 * 7);
    BlockTask* last = schedule.blocks.empty() ? nullptr : &schedule.blocks.back();
    const bool joins =
        whole && last != nullptr && last->whole &&
        requests[schedule.order[schedule.parts[last->first].first]].file == request.file &&
        request.begin / sizes.page <= (last->begin + last->length + sizes.page - 1) / sizes.page &&
        end_of(request) - last->begin <= sizes.max_block;
    if (joins) {
      ++last->count;
      last->length = std::max(last->length, end_of(request) - last->begin);
    } else {
      schedule.blocks.push_back(
          {schedule.parts.size(), 1, request.begin, end_of(request) - request.begin, whole});
    }
    schedule.parts.push_back(part);
  }
  return schedule;
}

std::vector<BoxPiece> split_box(std::span<const std::int64_t> lengths, std::uint64_t max_elements) {
  std::vector<BoxPiece> pieces;
  if (std::ranges::any_of(lengths, [](std::int64_t length) { return length <= 0; })) return pieces;
  // The box is split along `dim`; the dims before it are visited index by index.
  std::size_t dim = lengths.size();
  std::uint64_t inner = 1;  // elements of an index of `dim`
  while (dim > 0) {
    std::uint64_t more = 0;
    if (__builtin_mul_overflow(inner, static_cast<std::uint64_t>(lengths[dim - 1]), &more) ||
        more > max_elements) {
      break;
    }
    inner = more;
    --dim;
  }
  BoxPiece piece{std::vector<std::int64_t>(lengths.size()), {lengths.begin(), lengths.end()}};
  if (dim == 0) {
    pieces.push_back(std::move(piece));
    return pieces;
  }
  --dim;
  const auto at_once = static_cast<std::int64_t>(std::max<std::uint64_t>(1, max_elements / inner));
  for (std::size_t outer = 0; outer < dim; ++outer) piece.lengths[outer] = 1;
  for (;;) {
    for (std::int64_t done = 0; done < lengths[dim]; done += at_once) {
      piece.offsets[dim] = done;
      piece.lengths[dim] = std::min(at_once, lengths[dim] - done);
      pieces.push_back(piece);
    }
    std::size_t outer = dim;
    for (;;) {
      if (outer == 0) return pieces;
      --outer;
      if (++piece.offsets[outer] < lengths[outer]) break;
      piece.offsets[outer] = 0;
    }
  }
}

}  // namespace shardplan::data
