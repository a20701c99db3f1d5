#pragma once

#include <cstdint>

namespace shardplan::pickle::opcode {

// Opcodes of Python's pickle.py, except those that only protocols 0 and 1 write.
inline constexpr std::uint8_t kMark = '(', kStop = '.', kPop = '0', kPopMark = '1', kDup = '2',
                              kBinFloat = 'G', kBinInt = 'J', kBinInt1 = 'K', kBinInt2 = 'M',
                              kNone = 'N', kReduce = 'R', kBinUnicode = 'X', kAppend = 'a',
                              kBuild = 'b', kGlobal = 'c', kEmptyDict = '}', kAppends = 'e',
                              kBinGet = 'h', kLongBinGet = 'j', kEmptyList = ']', kBinPut = 'q',
                              kLongBinPut = 'r', kSetItem = 's', kTuple = 't', kEmptyTuple = ')',
                              kSetItems = 'u', kBinBytes = 'B', kShortBinBytes = 'C',
                              kBinPersId = 'Q', kProto = 0x80, kNewObj = 0x81, kExtension1 = 0x82,
                              kExtension2 = 0x83, kExtension4 = 0x84, kTuple1 = 0x85,
                              kTuple2 = 0x86, kTuple3 = 0x87, kNewTrue = 0x88, kNewFalse = 0x89,
                              kLong1 = 0x8A, kLong4 = 0x8B, kShortBinUnicode = 0x8C,
                              kBinUnicode8 = 0x8D, kBinBytes8 = 0x8E, kEmptySet = 0x8F,
                              kAddItems = 0x90, kFrozenSet = 0x91, kNewObjEx = 0x92,
                              kStackGlobal = 0x93, kMemoize = 0x94, kFrame = 0x95,
                              kByteArray8 = 0x96;

}  // namespace shardplan::pickle::opcode
