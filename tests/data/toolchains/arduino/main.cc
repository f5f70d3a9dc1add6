// As Arduino's core calls a sketch; the program fails where Unity, if it is there, does.
#include "Arduino.h"

int unity_failures = 0;

int main() {
  setup();
  loop();
  return unity_failures;
}
