#pragma once

#include <string>
#include <string_view>

namespace shardplan::pickle {

/// Returns the opcodes of a protocol 4 pickle without PROTO, FRAME and STOP, for embedding its
/// value in another pickle. Throws BadPickle if `pickle` is not a protocol 4 pickle.
std::string without_frames(std::string_view pickle);

}  // namespace shardplan::pickle
