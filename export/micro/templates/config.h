// What an application has to know of {{ name }}. Written by tfkd {{ version }}; do not edit.
#ifndef TFKD_{{ name }}_CONFIG_H_
#define TFKD_{{ name }}_CONFIG_H_

#include <cstddef>
#include <cstdint>

namespace {{ name }}_model {

// Of the .tflite file in {{ name }}_model.cc, {{ file.size }} bytes.
constexpr char kSha256[] = "{{ file.digest }}";

{{ arena_basis | comment }}
constexpr size_t kTensorArenaSize = {{ arena }};

constexpr size_t kInputCount = {{ inputs | length }};
constexpr size_t kOutputCount = {{ outputs | length }};
{% for what, tensors in (("Input", inputs), ("Output", outputs)) %}
{% for tensor in tensors %}
{% set key = "k" ~ what ~ loop.index0 %}

{{ (what ~ " " ~ loop.index0 ~ ", \"" ~ tensor.info.name ~ "\".") | comment }}
using {{ what }}{{ loop.index0 }} = {{ tensor.type }};
constexpr int {{ key }}Rank = {{ tensor.info.shape | length }};
constexpr int {{ key }}Shape[] = { {{- (tensor.info.shape or [1]) | join(", ") -}} };
constexpr size_t {{ key }}Size = {{ tensor.count }};
{% if tensor.info.scale is not none %}
constexpr float {{ key }}Scale = {{ tensor.info.scale | number }};
constexpr int32_t {{ key }}ZeroPoint = {{ tensor.info.zero_point }};
{% endif %}
{% endfor %}
{% endfor %}
{% for output, names in classes.items() %}
{% set number = output if classes | length > 1 else "" %}

// What the numbers of output {{ output }} stand for, in order.
constexpr int kClassOutput{{ number }} = {{ output }};
constexpr size_t kClassCount{{ number }} = {{ names | length }};
constexpr const char* kClassNames{{ number }}[] = {
{% for class_name in names %}
    {{ class_name | text }},
{% endfor %}
};
{% endfor %}
{% if preprocessing.lines or preprocessing.constants %}

// What the data go through before they are quantized, as in training.
{% for line in preprocessing.lines %}
{{ line | comment }}
{% endfor %}
{% for constant in preprocessing.constants %}
{% if constant.values.ndim %}
constexpr {{ constant.type }} kPreprocessing{{ constant.name }}[] = {
{{ constant.values | numbers }}
};
{% else %}
constexpr {{ constant.type }} kPreprocessing{{ constant.name }} = {{ constant.values | number }};
{% endif %}
{% endfor %}
{% endif %}

{% if file.keeps_state %}
// A call changes what the next one answers, so {{ name }}_infer() resets the interpreter first.
{% elif states %}
// One step of a sequence a call; {{ name }}_infer() keeps the state for the next one.
{% else %}
// Each call is independent of the others.
{% endif %}
constexpr bool kKeepsState = {{ "true" if file.keeps_state else "false" }};
{% if states %}

// After a step, each state goes from an output to an input of the same scale. A sequence starts
// with every state input at its zero point.
struct State {
  size_t output;
  size_t input;
  size_t bytes;
};
constexpr size_t kStateCount = {{ states | length }};
constexpr State kStates[] = {
{% for output, input, bytes in states %}
    { {{- output }}, {{ input }}, {{ bytes -}} },
{% endfor %}
};
constexpr size_t kStateBytes = {{ states | sum(attribute=2) }};
{% endif %}

}  // namespace {{ name }}_model

#endif  // TFKD_{{ name }}_CONFIG_H_
