// Runs the named tests, or all tests, with every set of kernels that this processor can run.
#include <algorithm>
#include <cstring>

#include "support.hpp"

int main(int count, char** names) {
    using namespace elasticnd;
    struct {
        const char* name;
        void (*run)();
    } const tests[] = {{"values", test::test_values},         {"determinants", test::test_determinants},
                       {"transposes", test::test_transposes}, {"prefilter", test::test_prefilter},
                       {"parts", test::test_parts},           {"inside", test::test_everything_stays_inside},
                       {"threads", test::test_threads}};
    for (const std::string& kernels : available_kernels()) {
        choose_kernels(kernels);
        for (const auto& each : tests) {
            const bool wanted = count == 1 || std::any_of(names + 1, names + count, [&](const char* name) {
                                    return std::strcmp(name, each.name) == 0;
                                });
            if (!wanted) continue;
            const long before = test::checks;
            each.run();
            std::printf("%s, %s: %ld checks\n", kernels.c_str(), each.name, test::checks - before);
            std::fflush(stdout);
        }
    }
    return test::checks > 0 ? 0 : 1;
}
