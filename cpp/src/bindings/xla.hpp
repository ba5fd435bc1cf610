// Handlers by which XLA calls the core, through its foreign function interface.
#pragma once

namespace elasticnd {

struct XlaHandler {
    const char* name;
    void* function;
};

// Ends with a null name. Empty where the headers of the interface were missing when this was compiled.
extern const XlaHandler xla_handlers[];
// The interface's version, major and minor: an older XLA cannot run the handlers.
extern const int xla_version[2];

}  // namespace elasticnd
