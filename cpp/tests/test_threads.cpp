// Threads: results have the same bits for any number of threads, errors and interrupts arrive, and the pool survives a
// fork.
#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <thread>

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "support.hpp"

namespace elasticnd {
namespace test {
namespace {

struct Results {
    Array output;
    AdjointResults results;
};

Results compute(const Case& given, int threads) {
    set_threads(threads);
    PoolExecutor executor({});
    Random random(7);
    const int axes = static_cast<int>(given.image.size());
    Array image(given.items, 1, given.image, dtype_float32);
    image.fill(random, 0, 1);
    const Doubles points = random.reals(given.items * axes * size_of(given.points), -3, 3);
    const Array output = deform(given, points, image, executor);
    return {deform(given, points, image, executor), apply_adjoint(given, points, image, output, executor)};
}

void test_same_bits() {
    // Large enough that every step has tasks to distribute.
    const std::vector<Shape> shapes = {{140'001}, {363, 371}, {31, 40, 53}};
    struct {
        int order;
        int mode;
    } const splines[] = {{1, mode_mirror}, {2, mode_nearest}, {3, mode_grid_wrap}};
    for (const Shape& shape : shapes)
        for (const auto& spline : splines) {
            Case given;
            given.image = given.output = shape;
            given.points = Shape(shape.size(), 4);
            given.order = spline.order;
            given.mode = spline.mode;
            given.items = spline.order == 1 ? 3 : 1;
            const Results one = compute(given, 1);
            for (const int threads : {2, 4}) {
                const Results many = compute(given, threads);
                CHECK(one.output.equals(many.output), "sample, %d threads", threads);
                CHECK(one.results.image.equals(many.results.image), "sample_adjoint onto the image, %d threads",
                      threads);
                CHECK(one.results.points == many.results.points && one.results.affine == many.results.affine,
                      "sample_adjoint onto the grid, %d threads", threads);
            }
        }
}

void test_every_task_runs_once() {
    set_threads(4);
    PoolExecutor executor({});
    for (int64 count = 0; count < 300; ++count) {
        std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
        executor.run(count, [&](int64 task) { ++runs[static_cast<size_t>(task)]; });
        for (const auto& each : runs) CHECK(each.load() == 1, "a task ran %d times", each.load());
    }
}

void test_errors_arrive() {
    set_threads(4);
    PoolExecutor executor({});
    for (int i = 0; i < 50; ++i) {
        bool thrown = false;
        try {
            executor.run(20, [&](int64 task) {
                if (task == i % 20) throw std::runtime_error("expected");
            });
        } catch (const std::runtime_error&) {
            thrown = true;
        }
        CHECK(thrown, "the error of task %d is lost", i % 20);
    }
}

void test_interrupts_arrive() {
    set_threads(2);
    PoolExecutor executor([] { return true; });
    std::atomic<int> runs{0};
    bool thrown = false;
    try {
        executor.run(100'000, [&](int64) {
            ++runs;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        });
    } catch (const Interrupted&) {
        thrown = true;
    }
    CHECK(thrown && runs < 10'000, "%d tasks ran", runs.load());
}

// Runs beside or inside another run do not use the workers.
void test_runs_at_once() {
    set_threads(3);
    std::atomic<int> runs{0};
    std::vector<std::thread> callers;
    callers.reserve(4);
    for (int i = 0; i < 4; ++i)
        callers.emplace_back([&] {
            PoolExecutor executor({});
            for (int repeat = 0; repeat < 20; ++repeat)
                executor.run(10, [&](int64) { executor.run(3, [&](int64) { ++runs; }); });
        });
    for (std::thread& caller : callers) caller.join();
    CHECK(runs == 4 * 20 * 10 * 3, "%d tasks ran", runs.load());
}

#if !defined(_WIN32)
bool runs_all_tasks() {
    std::atomic<int> runs{0};
    PoolExecutor executor({});
    executor.run(100, [&](int64) { ++runs; });
    return runs == 100;
}

void check_child(pid_t child) {
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
}

void test_fork() {
    set_threads(3);
    CHECK(runs_all_tasks(), "the pool does not run");
    const pid_t child = fork();
    if (child == 0) _exit(runs_all_tasks() ? 0 : 1);
    check_child(child);
    CHECK(runs_all_tasks(), "the pool does not run after the fork");
}

// During a run, the check for interrupts may wait for a lock that the forking thread holds, such as the GIL.
void test_fork_beside_a_run() {
    set_threads(3);
    std::mutex lock;
    std::atomic<bool> asked{false};
    std::thread caller([&] {
        PoolExecutor executor([&] {
            asked = true;
            const std::scoped_lock held(lock);
            return false;
        });
        executor.run(200, [](int64) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); });
    });
    pid_t child;
    {
        const std::scoped_lock held(lock);
        while (!asked) std::this_thread::yield();
        child = fork();
        if (child == 0) _exit(runs_all_tasks() ? 0 : 1);
    }
    caller.join();
    check_child(child);
}
#endif

}  // namespace

void test_threads() {
    const int before = get_threads();
    test_every_task_runs_once();
    test_errors_arrive();
    test_interrupts_arrive();
    test_runs_at_once();
#if !defined(_WIN32)
    test_fork();
    test_fork_beside_a_run();
#endif
    test_same_bits();
    set_threads(before);
}

}  // namespace test
}  // namespace elasticnd
