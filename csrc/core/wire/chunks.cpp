#include "core/wire/chunks.h"

#include <utility>

#include "core/util/checked.h"

namespace shardplan::wire {
namespace {

// Predicted chunk after `last` if only `dim` is sharded; the whole tensor if there is no `last`.
// Only the difference to the prediction is encoded.
std::int64_t next_offset(const std::int64_t* last, std::size_t ndim, std::size_t dim) {
  return last == nullptr ? 0 : util::wrapping_add(last[dim], last[ndim + dim]);
}
std::int64_t next_size(const std::int64_t* last, std::size_t ndim, std::size_t dim,
                       std::span<const std::int64_t> shape) {
  return last == nullptr ? shape[dim] : last[ndim + dim];
}

/// Returns true if the chunk does not span the tensor in `dim`.
bool is_cut(const std::int64_t* chunk, std::size_t ndim, std::size_t dim,
            std::span<const std::int64_t> shape) {
  return chunk[dim] != 0 || chunk[ndim + dim] != shape[dim];
}

}  // namespace

std::string write_chunks(const columns::SavedChunks& chunks) {
  ByteWriter out;
  for (std::size_t entry = 0; entry < chunks.size(); ++entry) {
    if (!columns::writes_tensor(chunks.table.specs.kind[chunks.table.spec[entry]])) continue;
    const auto shape = chunks.table.specs.shape(chunks.table.spec[entry]);
    const std::size_t ndim = shape.size();
    out.varint(chunks.chunk_count(entry));
    const std::int64_t* last = nullptr;
    for (std::size_t at = 0; at < chunks.chunk_count(entry); ++at) {
      const std::int64_t* chunk = chunks.chunk(entry, at);
      std::uint64_t cut = 0;
      for (std::size_t dim = 0; dim < ndim; ++dim) {
        cut |= static_cast<std::uint64_t>(is_cut(chunk, ndim, dim, shape) ? 1 : 0) << dim;
      }
      out.varint(cut);
      for (std::size_t dim = 0; dim < ndim; ++dim) {
        if ((cut >> dim & 1) == 0) continue;
        out.number(util::wrapping_sub(chunk[dim], next_offset(last, ndim, dim)));
        out.number(util::wrapping_sub(chunk[ndim + dim], next_size(last, ndim, dim, shape)));
      }
      last = chunk;
    }
  }
  return out.take();
}

columns::SavedChunks read_chunks(std::string_view bytes, columns::SaveTable table) {
  ByteReader in(bytes);
  columns::SavedChunks out;
  for (std::size_t entry = 0; entry < table.size(); ++entry) {
    const std::size_t spec = table.spec[entry];
    const auto shape = table.specs.shape(spec);
    const std::size_t ndim = shape.size();
    const std::size_t count = columns::writes_tensor(table.specs.kind[spec]) ? in.count() : 0;
    std::int64_t* chunk = out.extend(count, ndim);
    const std::int64_t* last = nullptr;
    for (std::size_t at = 0; at < count; ++at, chunk += 2 * ndim) {
      const std::uint64_t cut = in.varint();
      if (ndim < columns::kMaxDims && cut >> ndim != 0) in.fail_bits("dim mask", cut);
      for (std::size_t dim = 0; dim < ndim; ++dim) {
        const bool other = (cut >> dim & 1) != 0;
        chunk[dim] = other ? util::wrapping_add(in.number(), next_offset(last, ndim, dim)) : 0;
        chunk[ndim + dim] =
            other ? util::wrapping_add(in.number(), next_size(last, ndim, dim, shape)) : shape[dim];
      }
      last = chunk;
    }
  }
  in.expect_end("chunks");
  out.table = std::move(table);
  return out;
}

}  // namespace shardplan::wire
