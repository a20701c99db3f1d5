#pragma once

#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace shardplan::util {

/// Thrown by the work of a thread when another one has ended all of it.
struct Stopped {};

/// Calls `work(is_caller)` on the calling thread and on `count - 1` new ones, or on fewer if the
/// system has no more threads. Returns when all have returned. `work` must not throw.
template <class Work>
void run_on_threads(std::size_t count, const Work& work) {
  std::vector<std::thread> threads;
  try {
    for (std::size_t more = 1; more < count; ++more) {
      threads.emplace_back([&work] { work(false); });
    }
  } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch)
    // Those threads that there are do the work.
  }
  work(true);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace shardplan::util
