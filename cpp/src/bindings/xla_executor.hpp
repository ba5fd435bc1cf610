// Runs tasks on XLA's threads.
#pragma once
#include <xla/ffi/api/ffi.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

#include "runtime/floating_point.hpp"
#include "runtime/parallel.hpp"

namespace elasticnd {

// One parallel run, on threads that also have other work. Helpers that arrive late find no task left, and access
// nothing but this object.
class SharedRun {
   public:
    SharedRun(int64 count, const std::function<void(int64)>& task) : count_(count), task_(task) {}
    void work() {
        const DefaultFloatingPoint state;
        for (;;) {
            const int64 next = next_.fetch_add(1);
            if (next >= count_) return;
            try {
                if (!failed_) task_(next);
            } catch (...) {
                const std::scoped_lock lock(mutex_);
                if (!failed_) error_ = std::current_exception();
                failed_ = true;
            }
            const std::scoped_lock lock(mutex_);
            if (++ended_ == count_) all_ended_.notify_all();
        }
    }
    void await() {
        std::unique_lock<std::mutex> lock(mutex_);
        all_ended_.wait(lock, [&] { return ended_ == count_; });
        if (error_) std::rethrow_exception(error_);
    }

   private:
    const int64 count_;
    const std::function<void(int64)>& task_;  // lives until all tasks have ended
    std::atomic<int64> next_{0};
    std::atomic<bool> failed_{false};
    std::mutex mutex_;
    std::condition_variable all_ended_;
    int64 ended_ = 0;
    std::exception_ptr error_;
};

// Runs tasks on XLA's threads. Handlers occupy these threads, too, possibly all of them. The calling thread therefore
// works on the tasks itself, and never waits for a task that has not begun.
class XlaExecutor : public Executor {
   public:
    explicit XlaExecutor(xla::ffi::ThreadPool& pool)
        : pool_(pool), threads_(static_cast<int>(std::clamp<int64>(pool.num_threads(), 1, get_threads()))) {}
    int threads() const override { return threads_; }
    void run(int64 count, const std::function<void(int64)>& task) override {
        const int64 helpers = std::min<int64>(threads_, count) - 1;
        if (helpers <= 0) {
            for (int64 i = 0; i < count; ++i) task(i);
            return;
        }
        auto shared = std::make_shared<SharedRun>(count, task);
        for (int64 i = 0; i < helpers; ++i) pool_.Schedule([shared] { shared->work(); });
        shared->work();
        shared->await();
    }
    void check_interrupt() override {}

   private:
    xla::ffi::ThreadPool& pool_;
    const int threads_;
};

}  // namespace elasticnd
