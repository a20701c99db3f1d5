#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/util/pulse.h"

namespace shardplan::util {

/// Thrown by the work of a thread when another one has ended all of it.
struct Stopped {};

/// Calls `work(is_caller)` on the calling thread and on `count - 1` new ones, or on fewer if the
/// system has no more threads. Returns when all have returned.
///
/// pulse: also checked while the calling thread, whose own work is done, waits for others
/// fail:  called on the calling thread with the exception if the pulse cancels then; it has to let
///        the others end. Neither function must throw.
template <class Work, class Fail>
void run_on_threads(std::size_t count, const Work& work, const Pulse& pulse, const Fail& fail) {
  std::mutex mutex;
  std::condition_variable ended;
  std::size_t running = 0;
  std::vector<std::thread> threads;
  threads.reserve(count);
  try {
    for (std::size_t more = 1; more < count; ++more) {
      {
        const std::scoped_lock lock(mutex);
        ++running;
      }
      threads.emplace_back([&] {
        work(false);
        const std::scoped_lock lock(mutex);
        --running;
        ended.notify_one();
      });
    }
  } catch (const std::exception&) {
    // Those threads that there are do the work.
    const std::scoped_lock lock(mutex);
    --running;
  }
  work(true);
  std::unique_lock lock(mutex);
  while (!ended.wait_for(lock, std::chrono::milliseconds(20), [&] { return running == 0; })) {
    lock.unlock();
    try {
      pulse.check();
    } catch (...) {
      fail(std::current_exception());
    }
    lock.lock();
  }
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace shardplan::util
