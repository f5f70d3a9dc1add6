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
{{ ("The input: " ~ golden_source ~ ".") | comment }}
{% if answered %}
//
{{ tolerance_basis | comment }}
{{ ("Another tolerance is given to the compiler, for all sources, for output 0 in its unit: -D" ~ name ~ "_GOLDEN_TOLERANCE0=4") | comment }}
{% endif %}
{% for tensor in inputs %}
extern const {{ tensor.type }} kGoldenInput{{ loop.index0 }}[kInput{{ loop.index0 }}Size];
{% endfor %}
{% for tensor in outputs if answered %}
extern const {{ tensor.type }} kGoldenOutput{{ loop.index0 }}[kOutput{{ loop.index0 }}Size];
#ifndef {{ name }}_GOLDEN_TOLERANCE{{ loop.index0 }}
#define {{ name }}_GOLDEN_TOLERANCE{{ loop.index0 }} {{ tensor.tolerance }}  // {{ tensor.unit }}
#endif
constexpr double kGoldenTolerance{{ loop.index0 }} = {{ name }}_GOLDEN_TOLERANCE{{ loop.index0 }};
{% endfor %}

}  // namespace {{ name }}_model

#endif  // TFKD_{{ name }}_GOLDEN_H_
