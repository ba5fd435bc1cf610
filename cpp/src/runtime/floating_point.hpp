// The floating-point state of threads: how results are rounded, and whether tiny numbers are taken for zeros.
#pragma once
#include "elasticnd/platform.hpp"

namespace elasticnd {

// The calling thread's state, and another one; elsewhere than on x86 and AArch64, the rounding alone.
uint64 floating_point_state();
void set_floating_point_state(uint64 state);

// The state that results are defined by: to the nearest number, tiny ones as they are, no trap.
uint64 default_floating_point_state();

// Sets the default for as long as it lives: other libraries set what is quicker for them, for one thread or for all.
class DefaultFloatingPoint {
   public:
    DefaultFloatingPoint() : before_(floating_point_state()) {
        set_floating_point_state(default_floating_point_state());
    }
    ~DefaultFloatingPoint() { set_floating_point_state(before_); }
    DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;

   private:
    const uint64 before_;
};

}  // namespace elasticnd
