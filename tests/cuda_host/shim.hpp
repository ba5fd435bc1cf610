// Runs CUDA kernels on the host, one block after the other. The threads of a block are fibers that take turns: each one
// runs until it waits for the others.
#pragma once
#include <ucontext.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__ static
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__

struct Index3 {
    unsigned x, y, z;
};
static Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace shim {

static bool backward = false;  // start with the last block and thread, to reveal results that depend on the order

class Block {
   public:
    static constexpr std::size_t stack_size = 256 * 1024;

    explicit Block(unsigned threads) : fibers_(threads) {
        for (Fiber& fiber : fibers_) fiber.stack.reset(new char[stack_size]);
    }
    void run(const std::function<void()>& body) {
        body_ = &body;
        current_block = this;
        for (Fiber& fiber : fibers_) {
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = stack_size;
            fiber.context.uc_link = nullptr;
            fiber.done = false;
            fiber.fake = nullptr;
            makecontext(&fiber.context, &Block::enter, 0);
        }
        for (bool busy = true; busy;) {
            busy = false;
            for (std::size_t turn = 0; turn < fibers_.size(); ++turn) {
                current_ = backward ? fibers_.size() - 1 - turn : turn;
                if (fibers_[current_].done) continue;
                busy = true;
                threadIdx = {static_cast<unsigned>(current_), 0, 0};
                begin_switch(&fake_, fibers_[current_].stack.get(), stack_size);
                swapcontext(&scheduler_, &fibers_[current_].context);
                end_switch(fake_);
            }
        }
    }
    void wait() {
        Fiber& fiber = fibers_[current_];
        begin_switch(&fiber.fake, bottom_, size_);
        swapcontext(&fiber.context, &scheduler_);
        end_switch(fiber.fake);
    }
    static Block* current_block;

   private:
    struct Fiber {
        ucontext_t context;
        std::unique_ptr<char[]> stack;
        bool done;
        void* fake;
    };
    static void enter() {
        Block& block = *current_block;
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(nullptr, &block.bottom_, &block.size_);
#endif
        (*block.body_)();
        Fiber& fiber = block.fibers_[block.current_];
        fiber.done = true;
        begin_switch(nullptr, block.bottom_, block.size_);
        swapcontext(&fiber.context, &block.scheduler_);
    }
    static void begin_switch([[maybe_unused]] void** fake, [[maybe_unused]] const void* bottom,
                             [[maybe_unused]] std::size_t size) {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(fake, bottom, size);
#endif
    }
    static void end_switch([[maybe_unused]] void* fake) {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    }

    std::vector<Fiber> fibers_;
    const std::function<void()>* body_ = nullptr;
    std::size_t current_ = 0;
    ucontext_t scheduler_;
    void* fake_ = nullptr;
    const void* bottom_ = nullptr;  // the stack of the scheduler
    std::size_t size_ = 0;
};
Block* Block::current_block = nullptr;

static std::unique_ptr<char[]> dynamic_memory;

template <class... A, std::size_t... I>
void launch(void (*kernel)(A...), Index3 grid, unsigned block, std::size_t shared, void** arguments,
            std::index_sequence<I...>) {
    dynamic_memory.reset(new char[shared]);
    Block threads(block);
    blockDim = {block, 1, 1};
    gridDim = grid;
    const std::function<void()> body = [&] { kernel(*static_cast<std::remove_cv_t<A>*>(arguments[I])...); };
    const unsigned blocks = grid.x * grid.y * grid.z;
    for (unsigned turn = 0; turn < blocks; ++turn) {
        const unsigned b = backward ? blocks - 1 - turn : turn;
        blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
        std::memset(dynamic_memory.get(), 0x7f, shared);
        threads.run(body);
    }
}

template <class... A>
void launch(void (*kernel)(A...), Index3 grid, unsigned block, std::size_t shared, void** arguments) {
    launch(kernel, grid, block, shared, arguments, std::index_sequence_for<A...>());
}

}  // namespace shim

static inline void __syncthreads() { shim::Block::current_block->wait(); }
static inline void __syncwarp() { __syncthreads(); }
static inline void* dynamic_shared_memory() { return shim::dynamic_memory.get(); }

template <class T>
T atomicAdd(T* address, T value) {
    const T before = *address;
    *address = before + value;
    return before;
}
