#include "memory.hpp"

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace elasticnd {
namespace {

constexpr size_t cache_line = 64;
constexpr size_t large_page = size_t(1) << 21;

}  // namespace

Memory::Memory(size_t bytes) {
    const bool large = bytes >= 2 * large_page;
    const size_t alignment = large ? large_page : cache_line;
    owned_.reset(static_cast<char*>(std::malloc(bytes + alignment)));
    if (!owned_) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(owned_.get());
    data_ = owned_.get() + ((address + alignment - 1) / alignment * alignment - address);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (large) madvise(data_, bytes / large_page * large_page, MADV_HUGEPAGE);  // a wish: no harm if it is not granted
#endif
}

void Memory::Free::operator()(char* pointer) const { std::free(pointer); }

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
