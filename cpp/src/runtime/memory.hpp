// Memory for coefficients, and scratch memory for kernels.
#pragma once
#include <cstddef>
#include <new>
#include <string>

#include "elasticnd/platform.hpp"

namespace elasticnd {

// Reports how much memory was requested.
class OutOfMemory : public std::bad_alloc {
   public:
    explicit OutOfMemory(double bytes);
    const char* what() const noexcept override { return message_.c_str(); }

   private:
    std::string message_;
};

// Uninitialised memory, aligned to cache lines. Large blocks use large pages if the system has them. Medium-sized
// blocks are kept for the next call when they are freed, because obtaining them from the system takes as long as
// filling them.
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

// Uninitialised memory for one call of a kernel. It belongs to the thread, and is valid until the thread's next
// request.
void* scratch_memory(int64 bytes);

}  // namespace elasticnd
