// The golden example as a test: pio test. Written by tfkd {{ version }}.
#include <Arduino.h>
#include <{{ runtime_header }}>
#include <unity.h>

#include "{{ name }}_infer.h"

void setUp() {}
void tearDown() {}

void TestGolden() { TEST_ASSERT_EQUAL_INT({{ name }}_ok, {{ name }}_golden_test()); }

void setup() {
  delay(2000);  // until the serial port is open
  UNITY_BEGIN();
  RUN_TEST(TestGolden);
  UNITY_END();
}

void loop() {}
