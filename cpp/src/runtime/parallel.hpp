// Parallel tasks. The core does not own the threads that it runs on: an executor is an argument of every function, so
// that another runtime's thread pool can be used.
#pragma once
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <thread>
#include <utility>

#include "elasticnd/platform.hpp"

namespace elasticnd {

// Thrown on the calling thread when check_interrupt requests a stop.
struct Interrupted : std::exception {
    const char* what() const noexcept override { return "interrupted"; }
};

class Executor {
   public:
    virtual ~Executor() = default;
    virtual int threads() const = 0;
    // Runs task(0) ... task(count - 1), in any order and on any thread, and returns when all have ended. If a task
    // throws, the first exception is rethrown here, and tasks that have not begun by then are skipped.
    virtual void run(int64 count, const std::function<void(int64)>& task) = 0;
    // For long tasks: throws Interrupted if they should stop.
    virtual void check_interrupt() = 0;
};

// A single thread, for the parts of a task that itself runs on another executor.
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

// The threads of this process. The calling thread calls `interrupted` about every 50 ms, between tasks and in
// check_interrupt.
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

// The number of threads in the pool, at least 1; initially, those available to the process.
int get_threads();
void set_threads(int threads);

// Sets whether calls from this thread use only this thread; returns the previous setting.
bool keep_to_thread(bool keep);

}  // namespace elasticnd
