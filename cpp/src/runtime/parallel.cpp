// The pool of threads, which survives a fork.
#include "runtime/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/floating_point.hpp"

#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace elasticnd {
namespace {

int available_processors() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

// One parallel run. Threads claim tasks one by one.
class Run {
   public:
    Run(Executor& executor, int64 count, const std::function<void(int64)>& task)
        : executor_(executor), task_(task), count_(count) {}

    // Works until no task is left.
    void work() {
        for (;;) {
            const int64 next = next_.fetch_add(1);
            if (next >= count_) return;
            try {
                executor_.check_interrupt();
                task_(next);
            } catch (...) {
                const std::scoped_lock lock(mutex_);
                if (!error_) error_ = std::current_exception();
                next_.store(count_);
            }
        }
    }
    void rethrow() const {
        if (error_) std::rethrow_exception(error_);
    }

   private:
    Executor& executor_;
    const std::function<void(int64)>& task_;
    const int64 count_;
    std::atomic<int64> next_{0};
    std::mutex mutex_;
    std::exception_ptr error_;
};

// Waits briefly for a condition that another thread will soon fulfil; returns false if it takes longer. Sleeping and
// waking take tens of microseconds, as long as many runs.
template <class Condition>
bool await_briefly(Condition condition) {
    constexpr auto limit = std::chrono::microseconds(50);
    const auto start = std::chrono::steady_clock::now();
    while (!condition()) {
        if (std::chrono::steady_clock::now() - start > limit) return false;
        std::this_thread::yield();
    }
    return true;
}

// Workers that sleep between runs. A run that finds them busy works alone, so nested and concurrent calls stay on their
// own threads.
class Pool {
   public:
    static Pool& get() {
        static const bool prepared = prepare_forks();
        (void)prepared;
        return *current();
    }

    void run(int helpers, Run& run) {
        std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn.owns_lock()) {
            run.work();
            return;
        }
        start_workers(helpers);
        {
            const std::scoped_lock lock(mutex_);
            run_ = &run;
            busy_ = std::min<int>(helpers, static_cast<int>(workers_.size()));
            wanted_ = busy_.load();
        }
        wake_.notify_all();
        run.work();
        {
            // Workers that have not woken yet are no longer needed.
            const std::scoped_lock lock(mutex_);
            busy_ -= wanted_.load();
            wanted_ = 0;
        }
        await_briefly([&] { return busy_ == 0; });
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [&] { return busy_ == 0; });
        run_ = nullptr;
    }

   private:
    // Never destroyed: a thread may still compute while the process ends.
    static Pool*& current() {
        static Pool* pool = new Pool;
        return pool;
    }

    // Threads do not survive a fork. Idle workers are joined before the fork, so that the child misses none. A busy
    // pool is not awaited, because its run may be waiting for the forking thread, which holds the GIL; the child then
    // abandons that pool and makes its own.
    static bool prepare_forks() {
#if !defined(_WIN32)
        pthread_atfork([] { current()->before_fork(); }, [] { current()->after_fork(); },
                       [] {
                           if (current()->idle_at_fork_)
                               current()->after_fork();
                           else
                               current() = new Pool;
                       });
#endif
        return true;
    }
    void before_fork() {
        idle_at_fork_ = turn_.try_lock();
        if (idle_at_fork_) stop_workers();
    }
    void after_fork() {
        if (idle_at_fork_) turn_.unlock();
    }

    void start_workers(int count) {
        while (static_cast<int>(workers_.size()) < count) {
            try {
                workers_.emplace_back([this] { serve(); });
            } catch (const std::system_error&) {
                return;  // no more threads are available: work with the existing ones
            }
        }
    }
    void stop_workers() {
        {
            const std::scoped_lock lock(mutex_);
            stopping_ = true;
        }
        wake_.notify_all();
        for (std::thread& worker : workers_) worker.join();
        workers_.clear();
        stopping_ = false;
    }
    void serve() {
        const DefaultFloatingPoint state;  // a thread inherits the state of the one that starts it
        for (;;) {
            await_briefly([&] { return stopping_ || wanted_ > 0; });  // the next run often follows immediately
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [&] { return stopping_ || wanted_ > 0; });
            if (stopping_) return;
            --wanted_;
            Run* run = run_;
            lock.unlock();
            run->work();
            lock.lock();
            if (--busy_ == 0) done_.notify_one();
        }
    }

    std::mutex turn_;  // held by the run that uses the workers
    bool idle_at_fork_ = false;
    std::mutex mutex_;  // guards the following members
    std::condition_variable wake_;
    std::condition_variable done_;
    std::vector<std::thread> workers_;
    Run* run_ = nullptr;
    // Threads that wait briefly also read the following members, without the lock.
    std::atomic<int> wanted_{0};  // workers that may still join the run
    std::atomic<int> busy_{0};    // workers that the run waits for
    std::atomic<bool> stopping_{false};
};

std::atomic<int> chosen_threads{0};
thread_local bool on_own_thread = false;

}  // namespace

int get_threads() {
    const int chosen = chosen_threads.load();
    return chosen > 0 ? chosen : available_processors();
}

void set_threads(int threads) { chosen_threads.store(std::max(1, threads)); }

bool keep_to_thread(bool keep) { return std::exchange(on_own_thread, keep); }

int PoolExecutor::threads() const { return on_own_thread ? 1 : get_threads(); }

void PoolExecutor::check_interrupt() {
    if (stopped_.load()) throw Interrupted();
    if (!interrupted_ || std::this_thread::get_id() != caller_) return;
    const auto now = clock::now();
    if (now - asked_ < std::chrono::milliseconds(50)) return;
    asked_ = now;
    if (!interrupted_()) return;
    stopped_.store(true);
    throw Interrupted();
}

void PoolExecutor::run(int64 count, const std::function<void(int64)>& task) {
    Run run(*this, count, task);
    const int64 helpers = std::min<int64>(threads(), count) - 1;
    if (helpers > 0)
        Pool::get().run(static_cast<int>(helpers), run);
    else
        run.work();
    run.rethrow();
}

}  // namespace elasticnd
