#include "core/planning/keeper.h"

#include <stdexcept>
#include <string>

namespace shardplan::planning {

Keeper keeper_named(std::string_view name) {
  if (name == "fewest bytes") return Keeper::kFewestBytes;
  if (name == "lowest rank") return Keeper::kLowestRank;
  if (name == "balanced") return Keeper::kBalanced;
  throw std::invalid_argument("unknown keeper: '" + std::string(name) + "'");
}

}  // namespace shardplan::planning
