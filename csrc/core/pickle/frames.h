#pragma once

#include <string>
#include <string_view>

namespace shardplan::pickle {

/// The opcodes of a pickle of protocol 4 that push its value: without protocol, frames and stop.
/// Throws BadPickle for what is no such pickle.
std::string without_frames(std::string_view pickle);

}  // namespace shardplan::pickle
