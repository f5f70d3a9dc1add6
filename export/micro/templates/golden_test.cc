// The golden example as a test. Written by tfkd {{ version }}; do not edit.
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
{% if answered %}

template <typename T>
bool AreNear(const T* values, const T* expected, size_t count, double tolerance) {
  for (size_t i = 0; i < count; ++i) {
    if (!m::IsNear(values[i], expected[i], tolerance)) return false;
  }
  return true;
}
{% endif %}

{{ name }}_status Run() {
  {{ name }}_status status = {{ name }}_setup();
  if (status == {{ name }}_ok) status = {{ name }}_reset();
  if (status != {{ name }}_ok) return status;
{% for tensor in data_inputs if tensor.info.scale is not none %}
{% set i = tensor.place %}
  for (const m::Input{{ i }} number : m::kGoldenInput{{ i }}) {
    const float real = m::Dequantize(number, m::kInput{{ i }}Scale, m::kInput{{ i }}ZeroPoint);
    const m::Input{{ i }} back =
        m::Quantize<m::Input{{ i }}>(real, m::kInput{{ i }}Scale, m::kInput{{ i }}ZeroPoint);
    if (back != number) return {{ name }}_wrong_input;
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
  if (!AreNear(g_output{{ i }}, m::kGoldenOutput{{ i }}, m::kOutput{{ i }}Size,
               m::kGoldenTolerance{{ i }})) {
    return {{ name }}_wrong_answer;
  }
{% endfor %}
{% for output, input, bytes in states %}
  {
    static m::Output{{ output }} left[m::kOutput{{ output }}Size];
    std::memcpy(left, state + {{ offsets[loop.index0] }}, {{ bytes }});
    if (!AreNear(left, m::kGoldenOutput{{ output }}, m::kOutput{{ output }}Size,
                 m::kGoldenTolerance{{ output }})) {
      return {{ name }}_wrong_answer;
    }
  }
{% endfor %}
{% endif %}
  return {{ name }}_reset();
}

}  // namespace

extern "C" {{ name }}_status {{ name }}_golden_test(void) { return Run(); }
