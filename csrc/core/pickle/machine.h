#pragma once

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>

#include "core/pickle/globals.h"
#include "core/pickle/values.h"

namespace shardplan::pickle {

/// Thrown for a pickle that is broken or not supported. The message is a predicate without a
/// subject ("has ...", "is ..."), so that callers can name the subject. It usually ends with the
/// byte offset.
class BadPickle : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// Thrown for a pickle that may be valid but is not supported: it names a global that the dialect
/// does not know, has a torch.Size of more than kMaxDimsOfSize dims or, in the tensor dialect,
/// holds more than a tensor. Callers that trust the file can load it with Python's `pickle`.
class UnreadPickle : public BadPickle {
 public:
  using BadPickle::BadPickle;
};

/// Name used by the bindings, after the most common cause.
using UnknownGlobal = UnreadPickle;

/// Writes the next bytes of a pickle to `into`, at most `at_most`. Returns their number; 0 at the
/// end.
using Source = std::function<std::size_t(char* into, std::size_t at_most)>;

/// Parsed pickle.
struct Pickle {
  Values values;
  Value root;
  std::uint64_t bytes = 0;  // length from the first opcode through STOP
};

/// Parses a pickle of protocol 2 to 5. Nothing that the pickle names is imported or called. Throws
/// BadPickle.
///
/// Memory and time are linear in the bytes read: at most 100 bytes per byte plus 512 KiB. Neither
/// lengths claimed by the pickle nor repeated references to a value change this. Opcodes that copy
/// a container (`list(other)`, a torch.Size of a list) fail when items, spans and numbers exceed 4
/// per byte read plus 4,096; pickles written by Python have at most 3 per byte.
Pickle read_pickle(const Source& source, const Dialect& dialect = kMetadataDialect);

}  // namespace shardplan::pickle
