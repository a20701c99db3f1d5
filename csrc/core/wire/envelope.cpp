#include "core/wire/envelope.h"

#include "core/util/hash.h"
#include "core/util/text.h"
#include "core/wire/bytes.h"

namespace shardplan::wire {
namespace {

constexpr std::string_view kMagic{"\x93SPL"};

// Fixed header, the same in every wire version: magic, wire version, length of release, release.
std::string head(std::string_view release) {
  ByteWriter out;
  out.raw(kMagic);
  out.byte(kWireVersion);
  out.byte(static_cast<std::uint8_t>(release.size()));
  out.raw(release);
  return out.take();
}

}  // namespace

std::string seal(WireKind kind, std::string_view release, const Envelope& contents) {
  ByteWriter lengths;
  lengths.byte(static_cast<std::uint8_t>(kind));
  lengths.varint(contents.items);
  lengths.varint(contents.table.size());
  lengths.varint(contents.rows.size());

  const std::string start = head(release.substr(0, 0xFF));
  std::uint64_t sum = util::fingerprint(start);
  for (const std::string_view part :
       {std::string_view(lengths.bytes()), contents.table, contents.rows}) {
    sum = util::fingerprint(part, sum);
  }
  ByteWriter out;
  out.raw(start);
  out.raw(lengths.bytes());
  out.fixed64(sum);
  out.raw(contents.table);
  out.raw(contents.rows);
  return out.take();
}

Envelope open(WireKind kind, std::string_view release, std::string_view bytes) {
  ByteReader in(bytes);
  if (in.left() < kMagic.size() || in.raw(kMagic.size()) != kMagic)
    in.fail("is not a shardplan message");
  const std::uint8_t version = in.byte();
  const std::string_view writer = in.raw(in.byte());
  if (version != kWireVersion) {
    throw BadWire("was written by shardplan " + util::printable(writer) + " (wire version " +
                  std::to_string(version) + ") and is read by shardplan " + std::string(release) +
                  " (wire version " + std::to_string(kWireVersion) +
                  "): install the same shardplan on every rank");
  }
  const std::size_t start = bytes.size() - in.left();
  const std::uint8_t found = in.byte();
  Envelope contents;
  const std::uint64_t items = in.varint();
  const std::uint64_t table = in.varint();
  const std::uint64_t rows = in.varint();
  const std::size_t lengths = bytes.size() - in.left() - start;
  const std::uint64_t expected = in.fixed64();
  if (items > bytes.size()) {
    in.fail("has " + std::to_string(items) + " items in " + std::to_string(bytes.size()) +
            " bytes");
  }
  if (table > in.left() || rows != in.left() - table) {
    in.fail("has a table of " + std::to_string(table) + " bytes and rows of " +
            std::to_string(rows) + " bytes in " + std::to_string(in.left()) + " bytes");
  }
  contents.items = static_cast<std::size_t>(items);
  contents.table = in.raw(static_cast<std::size_t>(table));
  contents.rows = in.raw(static_cast<std::size_t>(rows));
  std::uint64_t sum = util::fingerprint(bytes.substr(0, start));
  for (const std::string_view part :
       {bytes.substr(start, lengths), contents.table, contents.rows}) {
    sum = util::fingerprint(part, sum);
  }
  if (sum != expected) throw BadWire("is corrupted: its checksum does not match");
  if (found != static_cast<std::uint8_t>(kind)) {
    in.fail("has message kind " + std::to_string(found) + " instead of " +
            std::to_string(static_cast<unsigned>(kind)));
  }
  return contents;
}

}  // namespace shardplan::wire
