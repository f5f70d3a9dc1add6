// An example and its answer. Written by tfkd {{ version }}; do not edit.
#ifndef TFKD_{{ name }}_GOLDEN_H_
#define TFKD_{{ name }}_GOLDEN_H_

#include "{{ name }}_config.h"

namespace {{ name }}_model {

{% set start = " from a reset state" if file.keeps_state else "" %}
{% if not answered %}
{{ "Only the chip knows the answer: nothing here runs the operators for its Ethos-U." | comment }}
{% elif proven %}
{{ ("The answer" ~ start ~ " of TensorFlow Lite for Microcontrollers with its portable kernels. Those for a chip may round in another place.") | comment }}
{% else %}
{{ ("The answer" ~ start ~ " of TensorFlow Lite's reference kernels: this bundle was not tested on TensorFlow Lite for Microcontrollers, whose answer can be some steps away.") | comment }}
{% endif %}
{% for tensor in inputs %}
extern const {{ tensor.type }} kGoldenInput{{ loop.index0 }}[kInput{{ loop.index0 }}Size];
{% endfor %}
{% for tensor in outputs if answered %}
extern const {{ tensor.type }} kGoldenOutput{{ loop.index0 }}[kOutput{{ loop.index0 }}Size];
constexpr double kGoldenTolerance{{ loop.index0 }} = {{ tensor.tolerance }};  // {{ tensor.unit }}
{% endfor %}

}  // namespace {{ name }}_model

#endif  // TFKD_{{ name }}_GOLDEN_H_
