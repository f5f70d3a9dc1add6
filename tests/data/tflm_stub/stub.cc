// The interpreter of the tests: it has the tensors that a test describes (stub.h), wants the golden
// inputs, and gives the golden outputs; STUB=near in the environment makes it answer something that
// is one step away, STUB=wrong something else, STUB=any take any inputs, and STUB=small find the
// arena too small. Nothing may be allocated with `new`.
//
// Outputs lie where inputs lie, last output first, as in an arena whose planner has found that the
// inputs are no longer needed.
#include "stub.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"

void* operator new(std::size_t) { std::abort(); }
void operator delete(void*) noexcept { std::abort(); }
void operator delete(void*, std::size_t) noexcept { std::abort(); }

namespace {

bool is_reset = false;
TfLiteTensor tensors[2][16];

bool Is(const char* word) {
  const char* given = std::getenv("STUB");
  return given != nullptr && std::strcmp(given, word) == 0;
}

}  // namespace

void MicroPrintf(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
}

namespace tflite {

MicroInterpreter::MicroInterpreter(const Model*, const MicroOpResolver& resolver, uint8_t* arena,
                                   size_t arena_size)
    : resolver_(resolver), arena_(arena), arena_size_(arena_size) {}

TfLiteStatus MicroInterpreter::AllocateTensors() {
  if (Is("small") || arena_size_ != stub::arena_size || reinterpret_cast<uintptr_t>(arena_) % 16 != 0) {
    return kTfLiteError;
  }
  if (resolver_.size() != stub::op_count || resolver_.capacity() != stub::op_count) {
    return kTfLiteError;
  }
  const stub::Tensor* all[2] = {stub::inputs, stub::outputs};
  const size_t counts[2] = {stub::input_count, stub::output_count};
  alignas(16) static char shared[1 << 16];
  for (size_t which = 0; which < 2; ++which) {
    size_t at = 0;
    for (size_t place = 0; place < counts[which]; ++place) {
      const size_t i = which == 0 ? place : counts[which] - 1 - place;
      TfLiteTensor& tensor = tensors[which][i];
      tensor.type = static_cast<TfLiteType>(all[which][i].type);
      tensor.bytes = all[which][i].bytes;
      tensor.data.raw = shared + at;
      at += (tensor.bytes + 15) / 16 * 16;
      if (at > sizeof(shared)) return kTfLiteError;
    }
  }
  return kTfLiteOk;
}

TfLiteStatus MicroInterpreter::Reset() {
  is_reset = true;
  return kTfLiteOk;
}

TfLiteStatus MicroInterpreter::Invoke() {
  for (size_t i = 0; i < stub::input_count && !Is("any"); ++i) {
    if (std::memcmp(tensors[0][i].data.raw, stub::inputs[i].bytes_of, tensors[0][i].bytes) != 0) {
      std::printf("input %d is not the golden one\n", static_cast<int>(i));
      return kTfLiteError;
    }
  }
  for (size_t i = 0; i < stub::output_count; ++i) {
    std::memcpy(tensors[1][i].data.raw, stub::outputs[i].bytes_of, tensors[1][i].bytes);
    if (Is("near")) tensors[1][i].data.raw[0] ^= 1;
    if (Is("wrong") || (stub::keeps_state && !is_reset)) {
      tensors[1][i].data.raw[tensors[1][i].bytes - 1] ^= 0x40;
    }
  }
  is_reset = false;
  return kTfLiteOk;
}

TfLiteTensor* MicroInterpreter::input(size_t index) { return &tensors[0][index]; }
TfLiteTensor* MicroInterpreter::output(size_t index) { return &tensors[1][index]; }
size_t MicroInterpreter::inputs_size() const { return stub::input_count; }
size_t MicroInterpreter::outputs_size() const { return stub::output_count; }
size_t MicroInterpreter::arena_used_bytes() const { return arena_size_ / 2; }

}  // namespace tflite
