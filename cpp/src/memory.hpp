// Memory for coefficients, and scratch memory for kernels.
#pragma once
#include <cstddef>
#include <memory>

#include "../include/elasticnd/platform.hpp"

namespace elasticnd {

// Aligned to a line of the cache; large pieces in large pages, where the system has them. Left as it comes.
class Memory {
   public:
    Memory() = default;
    explicit Memory(size_t bytes);
    char* data() const { return data_; }

   private:
    struct Free {
        void operator()(char* pointer) const;
    };
    std::unique_ptr<char, Free> owned_;
    char* data_ = nullptr;
};

// Memory for one call of a kernel; left as it comes, for a kernel writes before it reads. It belongs to the thread: it
// is good until the thread asks again.
void* scratch_memory(int64 bytes);

}  // namespace elasticnd
