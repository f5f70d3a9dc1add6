// Runs {{ name }}, see {{ name }}_infer.h. Written by tfkd {{ version }}; do not edit.
{% if runtime_header %}
#include <{{ runtime_header }}>

{% endif %}
#include "{{ name }}_infer.h"

{% if states %}
#include <cstring>
{% endif %}
#include <new>

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include "{{ name }}_config.h"
#include "{{ name }}_model.h"
#include "{{ name }}_ops.h"
#include "{{ name }}_tensors.h"

namespace {

namespace m = {{ name }}_model;

alignas(16) uint8_t g_arena[m::kTensorArenaSize];
// Made in place: neither a heap nor constructors that run before main().
alignas(m::OpResolver) unsigned char g_resolver[sizeof(m::OpResolver)];
alignas(tflite::MicroInterpreter) unsigned char g_place[sizeof(tflite::MicroInterpreter)];
tflite::MicroInterpreter* g_interpreter = nullptr;
{% if states %}
unsigned char g_state[m::kStateBytes];
{% endif %}
void (*g_log)(const char*) = nullptr;
uint32_t (*g_clock)(void) = nullptr;
uint32_t g_ticks = 0;

{{ name }}_status Failed({{ name }}_status status) {
  if (g_log != nullptr) g_log({{ name }}_message(status));
  return status;
}

bool Is(const TfLiteTensor* tensor, TfLiteType type, size_t bytes) {
  return tensor != nullptr && tensor->type == type && tensor->bytes == bytes;
}

bool HasItsTensors(tflite::MicroInterpreter& interpreter) {
  if (interpreter.inputs_size() != m::kInputCount) return false;
  if (interpreter.outputs_size() != m::kOutputCount) return false;
{% for what, tensors in (("Input", inputs), ("Output", outputs)) %}
{% for tensor in tensors %}
{% set i = loop.index0 %}
  if (!Is(interpreter.{{ what | lower }}({{ i }}), {{ tensor.tag }},
          m::k{{ what }}{{ i }}Size * sizeof(m::{{ what }}{{ i }}))) {
    return false;
  }
{% endfor %}
{% endfor %}
  return true;
}

// What has to be done before the inputs are set.
{{ name }}_status Begin() {
  if (g_interpreter == nullptr) return Failed({{ name }}_not_set_up);
{% if file.keeps_state %}
  if (g_interpreter->Reset() != kTfLiteOk) return Failed({{ name }}_call_failed);
{% endif %}
{% if states %}
  const unsigned char* from = g_state;
  for (const m::State& state : m::kStates) {
    std::memcpy(g_interpreter->input(state.input)->data.data, from, state.bytes);
    from += state.bytes;
  }
{% endif %}
  return {{ name }}_ok;
}

{{ name }}_status Invoke() {
  const uint32_t start = g_clock != nullptr ? g_clock() : 0;
  if (g_interpreter->Invoke() != kTfLiteOk) return Failed({{ name }}_call_failed);
  g_ticks = g_clock != nullptr ? g_clock() - start : 0;
{% if states %}
  unsigned char* to = g_state;
  for (const m::State& state : m::kStates) {
    std::memcpy(to, g_interpreter->output(state.output)->data.data, state.bytes);
    to += state.bytes;
  }
{% endif %}
  return {{ name }}_ok;
}

}  // namespace

extern "C" {

{{ name }}_status {{ name }}_setup(void) {
  if (g_interpreter != nullptr) return {{ name }}_ok;
  const tflite::Model* model = tflite::GetModel(g_{{ name }}_model_data);
  if (model->version() != 3) return Failed({{ name }}_bad_schema);
  auto* resolver = ::new (g_resolver) m::OpResolver;
  if (m::RegisterOps(*resolver) != kTfLiteOk) return Failed({{ name }}_bad_operators);
  auto* interpreter = ::new (g_place)
      tflite::MicroInterpreter(model, *resolver, g_arena, m::kTensorArenaSize);
  if (interpreter->AllocateTensors() != kTfLiteOk) return Failed({{ name }}_small_arena);
  if (!HasItsTensors(*interpreter)) return Failed({{ name }}_bad_tensors);
  g_interpreter = interpreter;
  return {{ name }}_reset();
}

{{ name }}_status {{ name }}_reset(void) {
  if (g_interpreter == nullptr) return Failed({{ name }}_not_set_up);
{% for output, input, bytes in states %}
{% set i = input %}
  for (size_t i = 0; i < m::kInput{{ i }}Size; ++i) {
    const m::Input{{ i }} start = {{ inputs[i].info.zero_point if inputs[i].info.scale is not none else 0 }};
    std::memcpy(g_state + {{ offsets[loop.index0] }} + i * sizeof(start), &start, sizeof(start));
  }
{% endfor %}
  return {{ name }}_ok;
}

{% for own in ((false, true) if quantized else (false,)) %}
{{ name }}_status {{ name }}_infer{{ "_quantized" if own }}(
    {{ parameters[own] }}) {
  {{ name }}_status status = Begin();
  if (status != {{ name }}_ok) return status;
{% for tensor in data_inputs %}
{% set i = tensor.place %}
  {
    auto* data = static_cast<m::Input{{ i }}*>(g_interpreter->input({{ i }})->data.data);
    for (size_t i = 0; i < m::kInput{{ i }}Size; ++i) {
{% if own or tensor.info.scale is none %}
      data[i] = input{{ i }}[i];
{% else %}
      data[i] = m::Quantize<m::Input{{ i }}>(input{{ i }}[i], m::kInput{{ i }}Scale,
                                      m::kInput{{ i }}ZeroPoint);
{% endif %}
    }
  }
{% endfor %}
  status = Invoke();
  if (status != {{ name }}_ok) return status;
{% for tensor in data_outputs %}
{% set i = tensor.place %}
  {
    const auto* data =
        static_cast<const m::Output{{ i }}*>(g_interpreter->output({{ i }})->data.data);
    for (size_t i = 0; i < m::kOutput{{ i }}Size; ++i) {
{% if own or tensor.info.scale is none %}
      output{{ i }}[i] = data[i];
{% else %}
      output{{ i }}[i] =
          m::Dequantize(data[i], m::kOutput{{ i }}Scale, m::kOutput{{ i }}ZeroPoint);
{% endif %}
    }
  }
{% endfor %}
  return {{ name }}_ok;
}

{% endfor %}
{% if states %}
void* {{ name }}_state(void) { return g_state; }

{% endif %}
const char* {{ name }}_message({{ name }}_status status) {
  switch (status) {
    case {{ name }}_ok:
      return "it worked";
    case {{ name }}_bad_schema:
      return "this TensorFlow Lite reads files of another schema";
    case {{ name }}_bad_operators:
      return "an operator can't be registered";
    case {{ name }}_small_arena:
      return "the arena is too small";
    case {{ name }}_bad_tensors:
      return "inputs or outputs are not those of the file";
    case {{ name }}_not_set_up:
      return "{{ name }}_setup() was not called, or failed";
    case {{ name }}_call_failed:
      return "an operator reported an error";
    case {{ name }}_wrong_input:
      return "the golden input is quantized to other numbers";
    case {{ name }}_wrong_answer:
      return "the golden example has another answer";
  }
  return "no status of {{ name }}";
}

size_t {{ name }}_arena_used_bytes(void) {
  return g_interpreter == nullptr ? 0 : g_interpreter->arena_used_bytes();
}

void {{ name }}_set_log(void (*log)(const char* message)) { g_log = log; }
void {{ name }}_set_clock(uint32_t (*now)(void)) { g_clock = now; }
uint32_t {{ name }}_last_ticks(void) { return g_ticks; }

}  // extern "C"
