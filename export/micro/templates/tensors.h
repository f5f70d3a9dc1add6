// From real numbers to tensors and back. Written by tfkd {{ version }}; do not edit.
#ifndef TFKD_{{ name }}_TENSORS_H_
#define TFKD_{{ name }}_TENSORS_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "{{ name }}_config.h"

namespace {{ name }}_model {

// Rounds half away from zero and saturates, as TensorFlow Lite's QUANTIZE does; NaN becomes the
// lowest number. The parentheses keep off the macros min, max and round of some Arduino cores.
template <typename T>
inline T Quantize(float value, float scale, int32_t zero_point) {
  constexpr T lowest = (std::numeric_limits<T>::min)();
  constexpr T highest = (std::numeric_limits<T>::max)();
  const float steps = (std::round)(value / scale) + static_cast<float>(zero_point);
  if (!(steps > static_cast<float>(lowest))) return lowest;
  if (!(steps < static_cast<float>(highest))) return highest;
  return static_cast<T>(steps);
}

template <typename T>
inline float Dequantize(T value, float scale, int32_t zero_point) {
  return static_cast<float>(static_cast<int32_t>(value) - zero_point) * scale;
}

// Whether a number is as far as `tolerance` from another, at most.
template <typename T>
inline bool IsNear(T value, T expected, double tolerance) {
  return std::fabs(static_cast<double>(value) - static_cast<double>(expected)) <= tolerance;
}

}  // namespace {{ name }}_model

#endif  // TFKD_{{ name }}_TENSORS_H_
