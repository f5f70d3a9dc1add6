// Runs {{ name }} on its golden example, see example.cpp. Written by tfkd {{ version }}.
#include <Arduino.h>
#include <{{ runtime_header }}>
#include <{{ name }}_infer.h>

int RunExample();

void setup() {
  Serial.begin(115200);
  while (!Serial) delay(10);
  RunExample();
}

void loop() { delay(1000); }
