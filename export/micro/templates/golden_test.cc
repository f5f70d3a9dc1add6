// The golden example as a test. Written by tfkd {{ version }}; do not edit.
#include <cmath>
{% if states %}
#include <cstring>
{% endif %}

#include "{{ name }}_golden.h"
#include "{{ name }}_infer.h"
#include "{{ name }}_tensors.h"

namespace {

namespace m = {{ name }}_model;

{% for tensor in data_outputs %}
m::Output{{ tensor.place }} g_output{{ tensor.place }}[m::kOutput{{ tensor.place }}Size];
{% endfor %}
{{ name }}_difference g_difference = {-1, 0, 0.0, 0.0, 0.0};
{% if answered %}

// Compares an output and keeps the number that is furthest off.
template <typename T>
bool AreNear(int output, const T* values, const T* wanted, size_t count, double tolerance) {
  double furthest = tolerance;
  for (size_t i = 0; i < count; ++i) {
    if (m::IsNear(values[i], wanted[i], furthest)) continue;
    const double got = static_cast<double>(values[i]), want = static_cast<double>(wanted[i]);
    g_difference = {output, i, got, want, tolerance};
    if (!(got - want < 0.0) && !(got - want >= 0.0)) return false;  // NaN
    furthest = std::fabs(got - want);
  }
  return g_difference.tensor < 0;
}
{% endif %}

{{ name }}_status Run() {
  g_difference.tensor = -1;
  {{ name }}_status status = {{ name }}_setup();
  if (status == {{ name }}_ok) status = {{ name }}_reset();
  if (status != {{ name }}_ok) return status;
{% for tensor in data_inputs if tensor.info.scale is not none %}
{% set i = tensor.place %}
  for (size_t i = 0; i < m::kInput{{ i }}Size; ++i) {
    const m::Input{{ i }} number = m::kGoldenInput{{ i }}[i];
    const float real = m::Dequantize(number, m::kInput{{ i }}Scale, m::kInput{{ i }}ZeroPoint);
    const m::Input{{ i }} back =
        m::Quantize<m::Input{{ i }}>(real, m::kInput{{ i }}Scale, m::kInput{{ i }}ZeroPoint);
    if (back != number) {
      g_difference = { {{- i }}, i, static_cast<double>(back), static_cast<double>(number), 0.0};
      return {{ name }}_wrong_input;
    }
  }
{% endfor %}
{% if states %}
  auto* state = static_cast<unsigned char*>({{ name }}_state());
{% for output, input, bytes in states %}
  std::memcpy(state + {{ offsets[loop.index0] }}, m::kGoldenInput{{ input }}, {{ bytes }});
{% endfor %}
{% endif %}
  status = {{ name }}_infer{{ "_quantized" if quantized }}(
      {{ golden_arguments }});
  if (status != {{ name }}_ok) return status;
{% if answered %}
{% for tensor in data_outputs %}
{% set i = tensor.place %}
  if (!AreNear({{ i }}, g_output{{ i }}, m::kGoldenOutput{{ i }}, m::kOutput{{ i }}Size,
               m::kGoldenTolerance{{ i }})) {
    return {{ name }}_wrong_answer;
  }
{% endfor %}
{% for output, input, bytes in states %}
  {
    static m::Output{{ output }} left[m::kOutput{{ output }}Size];
    std::memcpy(left, state + {{ offsets[loop.index0] }}, {{ bytes }});
    if (!AreNear({{ output }}, left, m::kGoldenOutput{{ output }}, m::kOutput{{ output }}Size,
                 m::kGoldenTolerance{{ output }})) {
      return {{ name }}_wrong_answer;
    }
  }
{% endfor %}
{% endif %}
  return {{ name }}_reset();
}

}  // namespace

extern "C" {

{{ name }}_status {{ name }}_golden_test(void) { return Run(); }
const {{ name }}_difference* {{ name }}_golden_difference(void) { return &g_difference; }

}  // extern "C"
