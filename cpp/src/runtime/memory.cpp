// Memory for coefficients, kept for the next call, and scratch memory for threads.
#include "runtime/memory.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace elasticnd {
namespace {

constexpr size_t cache_line = 64;
constexpr size_t large_page = size_t(1) << 21;

// Freed pieces of memory, kept for reuse. If another thread holds the lock during a fork, it stays locked in the child,
// hence `try_lock`.
class FreeList {
   public:
    void* take(size_t bytes, size_t& capacity) {
        if (bytes < least || bytes > most) return nullptr;
        const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
        if (!lock.owns_lock()) return nullptr;
        for (Piece& piece : pieces_) {
            if (piece.capacity < bytes || piece.capacity > 2 * bytes) continue;
            capacity = std::exchange(piece.capacity, 0);
            return std::exchange(piece.memory, nullptr);
        }
        return nullptr;
    }
    // Replaces the oldest piece.
    void put(void* memory, size_t capacity) {
        std::unique_lock<std::mutex> lock(mutex_, std::defer_lock);
        if (capacity >= least && capacity <= most && lock.try_lock()) {
            std::swap(memory, pieces_[next_].memory);
            pieces_[next_].capacity = capacity;
            next_ = (next_ + 1) % count;
        }
        std::free(memory);
    }

   private:
    struct Piece {
        void* memory = nullptr;
        size_t capacity = 0;
    };
    static constexpr size_t count = 2;
    static constexpr size_t least = size_t(1) << 20;
    static constexpr size_t most = size_t(1) << 25;
    std::mutex mutex_;
    Piece pieces_[count];
    size_t next_ = 0;
};

FreeList& free_list() {
    static FreeList* const pieces = new FreeList;  // never destroyed: a thread may still compute while the process ends
    return *pieces;
}

}  // namespace

OutOfMemory::OutOfMemory(double bytes) {
    char text[64];
    std::snprintf(text, sizeof text, "elasticnd: cannot allocate %.3g GB for one array", bytes / 1e9);
    message_ = text;
}

Memory::Memory(size_t bytes) {
    const bool large = bytes >= 2 * large_page;
    const size_t alignment = large ? large_page : cache_line;
    capacity_ = bytes + alignment;
    owned_ = free_list().take(bytes + alignment, capacity_);
    const bool fresh = !owned_;
    if (fresh) owned_ = std::malloc(capacity_);
    if (!owned_) throw OutOfMemory(static_cast<double>(bytes));
    const auto address = reinterpret_cast<std::uintptr_t>(owned_);
    data_ = static_cast<char*>(owned_) + ((address + alignment - 1) / alignment * alignment - address);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    // The system may ignore this hint.
    if (large && fresh) madvise(data_, bytes / large_page * large_page, MADV_HUGEPAGE);
#else
    (void)fresh;
#endif
}

Memory::~Memory() { free_list().put(owned_, capacity_); }

void* scratch_memory(int64 bytes) {
    constexpr int64 kept = 1 << 20;
    static thread_local std::unique_ptr<char[]> memory;
    static thread_local int64 size = 0;
    if (bytes > size || size > kept) {
        memory.reset();
        size = 0;
        memory.reset(new char[static_cast<size_t>(bytes)]);
        size = bytes;
    }
    return memory.get();
}

}  // namespace elasticnd
