// What a test says of the interpreter of stub.cc.
#ifndef STUB_H_
#define STUB_H_

#include <cstddef>

namespace stub {

struct Tensor {
  int type;
  size_t bytes;
  const void* bytes_of;
};
extern const Tensor inputs[];
extern const Tensor outputs[];
extern const size_t input_count;
extern const size_t output_count;
extern const size_t op_count;
extern const size_t arena_size;
extern const bool keeps_state;

}  // namespace stub

#endif  // STUB_H_
