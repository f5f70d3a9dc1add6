{% set printf = entry in ("app_main", "zephyr") %}
{% set say = "std::printf" if printf else "Say" if entry == "arduino" else "MicroPrintf" %}
{% set end = "\\n" if printf else "" %}
{% set clocked = printf or entry == "arduino" %}
{% set number_format = "%s" if entry == "arduino" else "%f" %}
{% set whole = (inputs + outputs) | rejectattr("info.dtype", "equalto", "float32") | list | length == (inputs + outputs) | length %}
{% set off_format = "%d" if whole else number_format %}
{% set off_value = "static_cast<int>(off->%s)" if whole else ("String(static_cast<float>(off->%s), 6).c_str()" if entry == "arduino" else "off->%s") %}
{% set number_value = "String(value, 4).c_str()" if entry == "arduino" else "static_cast<double>(value)" %}
{% if entry == "main" %}
// Runs {{ name }} once on its golden example: 0 if {{ "the answer holds" if answered else "it runs" }}, else 1. Written by tfkd
// {{ version }} as a start for an application of your own.
{% else %}
// Runs {{ name }} on its golden example. Written by tfkd {{ version }} as a start for an application
// of your own.
{% endif %}
{% if printf %}
#include <cstdio>

{% elif entry != "arduino" %}
#include "tensorflow/lite/micro/micro_log.h"

{% endif %}
#include "{{ name }}_config.h"
#include "{{ name }}_golden.h"
#include "{{ name }}_infer.h"
{% if data_outputs | selectattr("info.scale") | list %}
#include "{{ name }}_tensors.h"
{% endif %}
{% if entry == "arduino" %}

// Last, since some cores define macros such as min and round.
#include <Arduino.h>
{% elif entry == "app_main" %}

#include "esp_timer.h"
{% elif entry == "zephyr" %}

#include <zephyr/kernel.h>
{% endif %}

namespace {

namespace m = {{ name }}_model;

{% for tensor in data_outputs %}
m::Output{{ tensor.place }} g_output{{ tensor.place }}[m::kOutput{{ tensor.place }}Size];
{% endfor %}
{% if entry == "arduino" %}

template <typename... Values>
void Say(const char* format, Values... values) {
  static char line[120];
  snprintf(line, sizeof(line), format, values...);
  Serial.println(line);
}

uint32_t Clock() { return micros(); }
{% elif entry == "app_main" %}

uint32_t Clock() { return static_cast<uint32_t>(esp_timer_get_time()); }
{% elif entry == "zephyr" %}

uint32_t Clock() { return k_cycle_get_32(); }
{% endif %}

{% if entry in ("arduino", "function") %}
}  // namespace

{% endif %}
{% if entry == "function" %}
extern "C" int {{ name }}_example(void) {
{% else %}
int RunExample() {
{% endif %}
{% if clocked %}
  {{ name }}_set_clock(Clock);
{% endif %}
  {{ name }}_status status = {{ name }}_golden_test();
  if (status == {{ name }}_ok) {
    status = {{ name }}_infer{{ "_quantized" if quantized }}(
      {{ golden_arguments }});
  }
  if (status != {{ name }}_ok) {
    {{ say }}("FAILED: %s{{ end }}", {{ name }}_message(status));
    const {{ name }}_difference* off = {{ name }}_golden_difference();
    if (off->tensor >= 0) {
      {{ say }}("%s %d, number %d: got {{ off_format }}, wanted {{ off_format }}, tolerance {{ off_format }}{{ end }}",
          status == {{ name }}_wrong_input ? "input" : "output", off->tensor,
          static_cast<int>(off->index), {{ off_value % "got" }},
          {{ off_value % "wanted" }}, {{ off_value % "tolerance" }});
      {{ say }}("The tolerance, and the example that went in: {{ name }}_golden.h{{ end }}");
    }
    return 1;
  }
{% for tensor in data_outputs %}
{% set i = tensor.place %}
  {
{% set number = i if classes | length > 1 else "" %}
{% if i in classes %}
    size_t best = 0;
    for (size_t i = 1; i < m::kClassCount{{ number }}; ++i) {
      if (g_output{{ i }}[i] > g_output{{ i }}[best]) best = i;
    }
{% else %}
    const size_t best = 0;
{% endif %}
{% if tensor.info.scale is not none %}
    const float value =
        m::Dequantize(g_output{{ i }}[best], m::kOutput{{ i }}Scale, m::kOutput{{ i }}ZeroPoint);
{% else %}
    const float value = static_cast<float>(g_output{{ i }}[best]);
{% endif %}
{% if i in classes %}
    {{ say }}("output {{ i }}: class %s, {{ number_format }}{{ " first" if tensor.count > classes[i] | length }}{{ end }}", m::kClassNames{{ number }}[best],
      {{ number_value }});
{% else %}
    {{ say }}("output {{ i }}: {{ number_format }} first{{ end }}", {{ number_value }});
{% endif %}
  }
{% endfor %}
{% if clocked %}
  {{ say }}("%lu bytes of arena, %lu ticks{{ end }}",
      static_cast<unsigned long>({{ name }}_arena_used_bytes()),
      static_cast<unsigned long>({{ name }}_last_ticks()));
{% endif %}
  {{ say }}("{{ "The golden example holds." if answered else "The example ran; its answer was not checked." }}{{ end }}");
  return 0;
}
{% if entry not in ("arduino", "function") %}

}  // namespace
{% endif %}
{% if entry == "app_main" %}

extern "C" void app_main(void) { RunExample(); }
{% elif entry not in ("arduino", "function") %}

int main() { return RunExample(); }
{% endif %}
