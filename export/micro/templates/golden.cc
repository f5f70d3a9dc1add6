// An example and its answer. Written by tfkd {{ version }}; do not edit.
#include "{{ name }}_golden.h"

namespace {{ name }}_model {
{% for what, tensors in (("Input", inputs), ("Output", outputs)) %}
{% for tensor in tensors if answered or what == "Input" %}

const {{ tensor.type }} kGolden{{ what }}{{ loop.index0 }}[k{{ what }}{{ loop.index0 }}Size] = {
{{ tensor.golden | numbers }}
};
{% endfor %}
{% endfor %}

}  // namespace {{ name }}_model
