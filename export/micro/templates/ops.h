// The operators that {{ name }} needs, and no others. Written by tfkd {{ version }}; do not edit.
#ifndef TFKD_{{ name }}_OPS_H_
#define TFKD_{{ name }}_OPS_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace {{ name }}_model {

using OpResolver = tflite::MicroMutableOpResolver<{{ calls | length }}>;

// Fills an empty resolver.
inline TfLiteStatus RegisterOps(OpResolver& resolver) {
{% for call in calls %}
  if (resolver.{{ call }}() != kTfLiteOk) return kTfLiteError;
{% endfor %}
  return kTfLiteOk;
}

}  // namespace {{ name }}_model

#endif  // TFKD_{{ name }}_OPS_H_
