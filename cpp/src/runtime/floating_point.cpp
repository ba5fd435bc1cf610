// These functions are not inline, so that compilers do not move arithmetic across them.
#include "runtime/floating_point.hpp"

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#elif !defined(__aarch64__) || !defined(__GNUC__)
#include <cfenv>
#endif

namespace elasticnd {

#if defined(__SSE__) && defined(__GNUC__)

// The state of the vector unit and, in the upper half, the state of the x87 unit, which libraries use for long doubles.
uint64 floating_point_state() {
    unsigned short control;
    __asm__ __volatile__("fnstcw %0" : "=m"(control));
    return _mm_getcsr() | static_cast<uint64>(control) << 32;
}
void set_floating_point_state(uint64 state) {
    const auto control = static_cast<unsigned short>(state >> 32);
    __asm__ __volatile__("fldcw %0" : : "m"(control));
    _mm_setcsr(static_cast<unsigned>(state));
}
uint64 default_floating_point_state() { return 0x037f00001f80; }  // all exceptions masked

#elif defined(__SSE__) || defined(_M_X64)

uint64 floating_point_state() { return _mm_getcsr(); }
void set_floating_point_state(uint64 state) { _mm_setcsr(static_cast<unsigned>(state)); }
uint64 default_floating_point_state() { return 0x1f80; }  // all exceptions masked

#elif defined(__aarch64__) && defined(__GNUC__)

uint64 floating_point_state() {
    uint64 state;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(state));
    return state;
}
void set_floating_point_state(uint64 state) { __asm__ __volatile__("msr fpcr, %0" : : "r"(state) : "memory"); }
uint64 default_floating_point_state() { return 0; }

#else

uint64 floating_point_state() { return static_cast<uint64>(std::fegetround()); }
void set_floating_point_state(uint64 state) { std::fesetround(static_cast<int>(state)); }
uint64 default_floating_point_state() { return FE_TONEAREST; }

#endif

}  // namespace elasticnd
