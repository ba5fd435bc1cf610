// The handlers through which XLA calls the core, using XLA's foreign function interface.
#pragma once

namespace elasticnd {

struct XlaHandler {
    const char* name;
    void* function;
};

// The list of handlers, which ends with a null name. It is empty if the interface's headers were missing at
// compilation.
extern const XlaHandler xla_handlers[];
// The interface's major and minor version; an older XLA cannot run the handlers.
extern const int xla_version[2];

}  // namespace elasticnd
