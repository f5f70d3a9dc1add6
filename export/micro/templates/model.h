// The bytes of {{ name }}.tflite. Written by tfkd {{ version }}; do not edit.
#ifndef TFKD_{{ name }}_MODEL_H_
#define TFKD_{{ name }}_MODEL_H_

extern const unsigned char g_{{ name }}_model_data[];
extern const unsigned int g_{{ name }}_model_data_size;

#endif  // TFKD_{{ name }}_MODEL_H_
