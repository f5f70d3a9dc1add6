{% macro constants(const, text, prefix) %}
// Of the .tflite file in {{ name }}_model.cc, {{ file.size }} bytes.
{{ const }} char {{ prefix }}kSha256[] =
    "{{ file.digest }}";

// Bytes; see above.
{{ const }} size_t {{ prefix }}kTensorArenaSize = {{ name }}_ARENA_BYTES;

{{ const }} size_t {{ prefix }}kInputCount = {{ inputs | length }};
{{ const }} size_t {{ prefix }}kOutputCount = {{ outputs | length }};
{% for what, tensors in (("Input", inputs), ("Output", outputs)) %}
{% for tensor in tensors %}
{% set key = prefix ~ "k" ~ what ~ loop.index0 %}

{{ (what ~ " " ~ loop.index0 ~ ", \"" ~ tensor.info.name ~ "\".") | comment }}
typedef {{ tensor.type }} {{ prefix }}{{ what }}{{ loop.index0 }};
{{ const }} int {{ key }}Rank = {{ tensor.info.shape | length }};
{{ const }} int {{ key }}Shape[] = { {{- (tensor.info.shape or [1]) | join(", ") -}} };
{{ const }} size_t {{ key }}Size = {{ tensor.count }};
{% if tensor.info.scale is not none %}
{{ const }} float {{ key }}Scale = {{ tensor.info.scale | number }};
{{ const }} int32_t {{ key }}ZeroPoint = {{ tensor.info.zero_point }};
{% endif %}
{% endfor %}
{% endfor %}
{% for output, names in classes.items() %}
{% set number = output if classes | length > 1 else "" %}

// What the numbers of output {{ output }} stand for, in order.
{{ const }} int {{ prefix }}kClassOutput{{ number }} = {{ output }};
{{ const }} size_t {{ prefix }}kClassCount{{ number }} = {{ names | length }};
{{ text }} {{ prefix }}kClassNames{{ number }}[] = {
{% for class_name in names %}
    {{ class_name | text }},
{% endfor %}
};
{% endfor %}
{% if preprocessing.lines or preprocessing.constants %}

// What the data go through before they are quantized, as in training: the application's part, see
// {{ name }}_infer.h.
{% for line in preprocessing.lines %}
{{ line | comment }}
{% endfor %}
{% for constant in preprocessing.constants %}
{% if constant.values.ndim %}
{{ const }} {{ constant.type }} {{ prefix }}kPreprocessing{{ constant.name }}[] = {
{{ constant.values | numbers }}
};
{% else %}
{{ const }} {{ constant.type }} {{ prefix }}kPreprocessing{{ constant.name }} = {{ constant.values | number }};
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
{{ const }} bool {{ prefix }}kKeepsState = {{ "true" if file.keeps_state else "false" }};
{% endmacro %}
// What an application has to know of {{ name }}, for C++ and C: in C++ the names are in the
// namespace {{ name }}_model, in C they begin with {{ name }}_, as in {{ name }}_kInputCount.
// Written by tfkd {{ version }}; do not edit.
#ifndef TFKD_{{ name }}_CONFIG_H_
#define TFKD_{{ name }}_CONFIG_H_

{{ ("The arena: " ~ arena_basis) | comment }}
{{ ("Another size is given to the compiler, for all sources: -D" ~ name ~ "_ARENA_BYTES=4096") | comment }}
#ifndef {{ name }}_ARENA_BYTES
#define {{ name }}_ARENA_BYTES {{ arena }}
#endif

#ifdef __cplusplus

#include <cstddef>
#include <cstdint>

namespace {{ name }}_model {

{{ constants("constexpr", "constexpr const char*", "") -}}
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

#else  // C

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

{{ constants("static const", "static const char* const", name ~ "_") }}
#endif  // __cplusplus

#endif  // TFKD_{{ name }}_CONFIG_H_
