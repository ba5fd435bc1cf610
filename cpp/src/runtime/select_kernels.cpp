// Chooses between the tables of kernels, by processor or by name.
#include <atomic>

#include "core/core.hpp"

namespace elasticnd {
namespace {

[[maybe_unused]] bool has_avx2() {
#if defined(ELASTICND_HAS_AVX2)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
#else
    return false;
#endif
}

const Kernels* best_kernels() {
#if defined(ELASTICND_HAS_AVX2)
    if (has_avx2()) return &avx2::kernels;
#endif
    return &baseline::kernels;
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const Kernels& active_kernels() {
    const Kernels* kernels = chosen.load();
    if (!kernels) chosen.store(kernels = best_kernels());
    return *kernels;
}

std::vector<std::string> available_kernels() {
    std::vector<std::string> names = {baseline::kernels.name};
    if (best_kernels() != &baseline::kernels) names.emplace_back(best_kernels()->name);
    return names;
}

bool choose_kernels(const std::string& name) {
    const Kernels* best = best_kernels();
    if (name == best->name)
        chosen.store(best);
    else if (name == baseline::kernels.name)
        chosen.store(&baseline::kernels);
    else
        return false;
    return true;
}

}  // namespace elasticnd
