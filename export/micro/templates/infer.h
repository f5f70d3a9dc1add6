// Runs {{ name }}: real numbers in, real numbers out. For C and C++; throws nothing and allocates
// nothing. Not for several threads at once. Written by tfkd {{ version }}; do not edit. Sizes and
// tolerances that a chip may need otherwise are given to the compiler, see {{ name }}_config.h.
#ifndef TFKD_{{ name }}_INFER_H_
#define TFKD_{{ name }}_INFER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What a function returns: zero if it did what it is for.
typedef enum {
  {{ name }}_ok = 0,
  {{ name }}_bad_schema = 1,       // this TensorFlow Lite reads files of another schema
  {{ name }}_bad_operators = 2,    // the resolver can't register an operator
  {{ name }}_small_arena = 3,      // the arena is too small for these kernels
  {{ name }}_bad_tensors = 4,      // inputs or outputs are not those of the file
  {{ name }}_not_set_up = 5,       // {{ name }}_setup() was not called, or failed
  {{ name }}_call_failed = 6,      // an operator reported an error
  {{ name }}_wrong_input = 7,      // the golden input is quantized to other numbers
  {{ name }}_wrong_answer = 8      // the golden example has another answer
} {{ name }}_status;

// How many numbers the arguments below hold.
enum {
{% for tensor in data_inputs %}
  {{ name }}_input{{ tensor.place }}_count = {{ tensor.count }},
{% endfor %}
{% for tensor in data_outputs %}
  {{ name }}_output{{ tensor.place }}_count = {{ tensor.count }},
{% endfor %}
  {{ name }}_state_bytes = {{ states | sum(attribute=2) }}
};

// Prepares the interpreter; once, before everything else. Later calls do nothing.
{{ name }}_status {{ name }}_setup(void);

{% if file.keeps_state %}
// Runs one whole sequence: the state is reset before it, as in training.
{% elif states %}
// Runs one step of a sequence, from the state that the step before left.
{% else %}
// Runs one call.
{% endif %}
{% if preprocessing.lines or preprocessing.constants %}
{{ ("It does not preprocess: what it takes is already preprocessed as in training, with the constants in " ~ name ~ "_config.h" ~ (". For each number i of a raw example, to pass x:" if preprocess_line else ".")) | comment }}
{% for line in preprocess_line %}
//   {{ line }}
{% endfor %}
{% endif %}
{% for tensor in data_inputs %}
{{ ("input" ~ tensor.place ~ ": \"" ~ tensor.info.name ~ "\", " ~ tensor.info.shape | join(" x ") ~ (", preprocessed as in training, which is left to the caller." if tensor.info.scale is not none else ".")) | comment }}
{% endfor %}
{% for tensor in data_outputs %}
{{ ("output" ~ tensor.place ~ ": \"" ~ tensor.info.name ~ "\", " ~ tensor.info.shape | join(" x ") ~ ".") | comment }}
{% endfor %}
{{ name }}_status {{ name }}_infer(
    {{ parameters[0] }});
{% if quantized %}

// The same with the tensors' own numbers, neither quantized nor dequantized.
{{ name }}_status {{ name }}_infer_quantized(
    {{ parameters[1] }});
{% endif %}

// Starts a new sequence{{ "" if states else "; nothing to do for this file, whose calls depend on no other" }}.
{{ name }}_status {{ name }}_reset(void);
{% if states %}

// The {{ name }}_state_bytes bytes of state, to keep a sequence elsewhere or to go on with one.
void* {{ name }}_state(void);
{% endif %}

// Runs the golden example of {{ name }}_golden.cc and starts a new sequence; for a unit test.
{{ name }}_status {{ name }}_golden_test(void);

// The number that is furthest off, after the test returned {{ name }}_wrong_answer (of an output) or
// {{ name }}_wrong_input (of an input); as the tensor has it, so in steps where it is quantized.
typedef struct {
  int tensor;        // which output or input; -1 if none is off
  size_t index;      // which of its numbers
  double got;
  double wanted;
  double tolerance;  // how far they may be apart, see {{ name }}_golden.h
} {{ name }}_difference;
const {{ name }}_difference* {{ name }}_golden_difference(void);

// What a status means, in a few words.
const char* {{ name }}_message({{ name }}_status status);

// How much of the arena the kernels of this build use; 0 before {{ name }}_setup().
size_t {{ name }}_arena_used_bytes(void);

// Is called with a message when setup, reset or infer fails; NULL, the default, for nothing.
void {{ name }}_set_log(void (*log)(const char* message));

// A clock of the chip's; NULL, the default, for none. {{ name }}_last_ticks() then is what the
// interpreter took for the last call, without quantizing, in the clock's unit.
void {{ name }}_set_clock(uint32_t (*now)(void));
uint32_t {{ name }}_last_ticks(void);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // TFKD_{{ name }}_INFER_H_
