#pragma once

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>

#include "core/pickle/globals.h"
#include "core/pickle/values.h"

namespace shardplan::pickle {

/// A pickle that is broken, or that this reader does not read; says what is wrong, and at which
/// byte.
class BadPickle : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// A pickle that this reader leaves to pickle, for those who trust the file: it names a global
/// which its dialect does not know, has a size of more than kMaxDimsOfSize dims, or is of more
/// than a tensor in the dialect of tensors.
class UnreadPickle : public BadPickle {
 public:
  using BadPickle::BadPickle;
};

/// As the bindings name it, after its usual cause.
using UnknownGlobal = UnreadPickle;

/// Gives at most so many bytes of a pickle, in order; 0 at its end.
using Source = std::function<std::size_t(char* into, std::size_t at_most)>;

/// What a pickle holds.
struct Pickle {
  Values values;
  Value root;
  std::uint64_t bytes = 0;  // from its first opcode to its last
};

/// Reads a pickle of protocol 2 to 5, as the source gives it. Nothing that it names is looked up,
/// made or called. Throws BadPickle.
///
/// Memory and time grow with the bytes read, never with a length that they claim, nor with how
/// often they refer to one value: at most 100 bytes for each, and half a megabyte. What copies a
/// container
/// (`list(other)`, a size of a list) is refused where items, spans and numbers of sizes come to
/// more than 4 a byte and 4,096: what pickle writes copies no container twice, and comes to 3 at
/// most.
Pickle read_pickle(const Source& source, const Dialect& dialect = kMetadataDialect);

}  // namespace shardplan::pickle
