// The floating-point state of threads: how results are rounded, and whether tiny numbers become zero.
#pragma once
#include "elasticnd/platform.hpp"

namespace elasticnd {

// Reads or sets the state of the calling thread; on processors other than x86 and AArch64, only the rounding mode.
uint64 floating_point_state();
void set_floating_point_state(uint64 state);

// The state that defines results: rounding to nearest, with subnormal numbers and without traps.
uint64 default_floating_point_state();

// Sets the default state during its lifetime, because other libraries may have set a faster one.
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
