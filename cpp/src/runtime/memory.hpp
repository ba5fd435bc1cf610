// Memory for coefficients, and scratch memory for kernels.
#pragma once
#include <cstddef>
#include <new>
#include <string>

#include "elasticnd/platform.hpp"

namespace elasticnd {

// Says how much memory there was not.
class OutOfMemory : public std::bad_alloc {
   public:
    explicit OutOfMemory(double bytes);
    const char* what() const noexcept override { return message_.c_str(); }

   private:
    std::string message_;
};

// Aligned to a line of the cache; large pieces in large pages, where the system has them. Left as it comes. Middling
// pieces are kept for the next call when they are freed: to get them from the system takes as long as to fill them.
class Memory {
   public:
    explicit Memory(size_t bytes);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    char* data() const { return data_; }

   private:
    void* owned_;
    size_t capacity_;
    char* data_;
};

// Memory for one call of a kernel; left as it comes, for a kernel writes before it reads. It belongs to the thread: it
// is good until the thread asks again.
void* scratch_memory(int64 bytes);

}  // namespace elasticnd
