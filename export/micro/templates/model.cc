// The bytes of {{ name }}.tflite. Written by tfkd {{ version }}; do not edit.
// SHA-256 {{ file.digest }}
#include "{{ name }}_model.h"

alignas(16) const unsigned char g_{{ name }}_model_data[] = {
{{ file.data | bytes }}
};
const unsigned int g_{{ name }}_model_data_size = {{ file.size }};
