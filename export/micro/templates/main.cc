// Runs {{ name }} once on its golden example: 0 if {{ "the answer holds" if answered else "it runs" }}, else 1. Written by tfkd
// {{ version }} as a start for an application of your own.
#include <cstddef>
#include <cstdint>

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include "{{ name }}_config.h"
#include "{{ name }}_golden.h"
#include "{{ name }}_model.h"
#include "{{ name }}_ops.h"
#include "{{ name }}_tensors.h"

namespace {

namespace m = {{ name }}_model;

alignas(16) uint8_t g_arena[m::kTensorArenaSize];

int Failed(const char* what) {
  MicroPrintf("FAILED: %s", what);
  return 1;
}

}  // namespace

int main() {
  const tflite::Model* model = tflite::GetModel(g_{{ name }}_model_data);
  if (model->version() != 3) return Failed("the schema's version");
  m::OpResolver resolver;
  if (m::RegisterOps(resolver) != kTfLiteOk) return Failed("the operators");
  tflite::MicroInterpreter interpreter(model, resolver, g_arena, m::kTensorArenaSize);
  if (interpreter.AllocateTensors() != kTfLiteOk) return Failed("the arena");
  if (interpreter.inputs_size() != m::kInputCount) return Failed("the number of inputs");
  if (interpreter.outputs_size() != m::kOutputCount) return Failed("the number of outputs");
{% if file.keeps_state %}

  // Before each new sequence.
  if (interpreter.Reset() != kTfLiteOk) return Failed("resetting the state");
{% endif %}
{% for tensor in inputs %}
{% set i = loop.index0 %}

  {
    auto* input = interpreter.input({{ i }});
    if (input == nullptr || input->type != {{ tensor.tag }} ||
        input->bytes != sizeof(m::kGoldenInput{{ i }})) {
      return Failed("input {{ i }}");
    }
    auto* data = static_cast<m::Input{{ i }}*>(input->data.data);
    for (size_t i = 0; i < m::kInput{{ i }}Size; ++i) {
{% if tensor.info.scale is not none %}
      // {{ "The state before the first step." if i in states | map(attribute=1) else "Stands for a number of the application's own, preprocessed as in training." }}
      const float value =
          m::Dequantize(m::kGoldenInput{{ i }}[i], m::kInput{{ i }}Scale, m::kInput{{ i }}ZeroPoint);
      data[i] = m::Quantize<m::Input{{ i }}>(value, m::kInput{{ i }}Scale, m::kInput{{ i }}ZeroPoint);
      if (data[i] != m::kGoldenInput{{ i }}[i]) return Failed("quantizing input {{ i }}");
{% else %}
      data[i] = m::kGoldenInput{{ i }}[i];
{% endif %}
    }
  }
{% endfor %}

  if (interpreter.Invoke() != kTfLiteOk) return Failed("the call");
{% for tensor in outputs %}
{% set i = loop.index0 %}

  {
    const auto* output = interpreter.output({{ i }});
    if (output == nullptr || output->type != {{ tensor.tag }} ||
        output->bytes != m::kOutput{{ i }}Size * sizeof(m::Output{{ i }})) {
      return Failed("output {{ i }}");
    }
    const auto* data = static_cast<const m::Output{{ i }}*>(output->data.data);
{% if answered %}
    for (size_t i = 0; i < m::kOutput{{ i }}Size; ++i) {
      if (!m::IsNear(data[i], m::kGoldenOutput{{ i }}[i], m::kGoldenTolerance{{ i }})) {
        return Failed("the answer in output {{ i }}");
      }
    }
{% endif %}
{% set number = i if classes | length > 1 else "" %}
{% if i in classes %}
    size_t best = 0;
    for (size_t i = 1; i < m::kClassCount{{ number }}; ++i) {
      if (data[i] > data[best]) best = i;
    }
{% else %}
    const size_t best = 0;
{% endif %}
{% if tensor.info.scale is not none %}
    const float value = m::Dequantize(data[best], m::kOutput{{ i }}Scale, m::kOutput{{ i }}ZeroPoint);
{% else %}
    const float value = static_cast<float>(data[best]);
{% endif %}
{% if i in classes %}
    MicroPrintf("output {{ i }}: class %s, %f", m::kClassNames{{ number }}[best], static_cast<double>(value));
{% else %}
    MicroPrintf("output {{ i }}: %f first", static_cast<double>(value));
{% endif %}
  }
{% endfor %}
{% if states %}

  // Before the next step of the sequence.
  if (!m::CarryStates(interpreter)) return Failed("carrying the states");
{% endif %}

  MicroPrintf("{{ "The golden example holds." if answered else "The example ran; its answer was not checked." }}");
  return 0;
}
