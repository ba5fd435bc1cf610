// Tasks in parallel. The core does not own the threads that it runs on: an executor is an argument of every function,
// so that another runtime's pool can serve.
#pragma once
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <thread>
#include <utility>

#include "elasticnd/platform.hpp"

namespace elasticnd {

// Thrown on the calling thread when check_interrupt is asked to stop.
struct Interrupted : std::exception {
    const char* what() const noexcept override { return "interrupted"; }
};

class Executor {
   public:
    virtual ~Executor() = default;
    virtual int threads() const = 0;
    // Runs task(0) ... task(count - 1), in any order and on any thread, and returns when all have ended. The first
    // exception of a task is thrown again here; tasks that have not begun by then are left out.
    virtual void run(int64 count, const std::function<void(int64)>& task) = 0;
    // For tasks that take long: throws Interrupted where they shall stop.
    virtual void check_interrupt() = 0;
};

// One thread, for a task of another executor that itself has parts.
class InlineExecutor : public Executor {
   public:
    explicit InlineExecutor(Executor& outer) : outer_(outer) {}
    int threads() const override { return 1; }
    void run(int64 count, const std::function<void(int64)>& task) override {
        for (int64 i = 0; i < count; ++i) {
            check_interrupt();
            task(i);
        }
    }
    void check_interrupt() override { outer_.check_interrupt(); }

   private:
    Executor& outer_;
};

// The threads of this process. Between tasks and in check_interrupt the calling thread asks `interrupted` every 50 ms
// or so.
class PoolExecutor : public Executor {
   public:
    explicit PoolExecutor(std::function<bool()> interrupted)
        : interrupted_(std::move(interrupted)), caller_(std::this_thread::get_id()), asked_(clock::now()) {}
    int threads() const override;
    void run(int64 count, const std::function<void(int64)>& task) override;
    void check_interrupt() override;

   private:
    using clock = std::chrono::steady_clock;
    const std::function<bool()> interrupted_;
    const std::thread::id caller_;
    clock::time_point asked_;
    std::atomic<bool> stopped_{false};
};

// How many threads the pool uses; at first those that the process may run on. At least 1.
int get_threads();
void set_threads(int threads);

// Whether calls from this thread keep to it; returns what was set before.
bool keep_to_thread(bool keep);

}  // namespace elasticnd
