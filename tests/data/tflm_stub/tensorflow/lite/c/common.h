// The few names of TensorFlow Lite's C types that a bundle's C++ uses, so that it can be compiled
// and run in the tests without TensorFlow Lite for Microcontrollers. Declarations only: what a
// tensor holds and what an interpreter answers is the test's.
#ifndef STUB_COMMON_H_
#define STUB_COMMON_H_

#include <cstddef>
#include <cstdint>

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType {
  kTfLiteNoType = 0,
  kTfLiteFloat32 = 1,
  kTfLiteInt32 = 2,
  kTfLiteUInt8 = 3,
  kTfLiteBool = 6,
  kTfLiteInt16 = 7,
  kTfLiteInt8 = 9,
  kTfLiteUInt32 = 16,
  kTfLiteUInt16 = 17,
};
union TfLitePtrUnion {
  char* raw;
  void* data;
};
struct TfLiteTensor {
  TfLitePtrUnion data;
  size_t bytes;
  TfLiteType type;
};

#endif  // STUB_COMMON_H_
