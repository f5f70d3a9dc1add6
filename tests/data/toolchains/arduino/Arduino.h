// The few names of Arduino's core that a sketch uses, for the tests.
#ifndef STUB_ARDUINO_H_
#define STUB_ARDUINO_H_

#include <cstdint>
#include <cstdio>


// As some cores have them.
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define round(x) ((x) >= 0 ? (long)((x) + 0.5) : (long)((x) - 0.5))

struct Port {
  void begin(unsigned long) {}
  void println(const char* line) { std::puts(line); }
  explicit operator bool() const { return true; }
};
inline Port Serial;

class String {
 public:
  String(float value, unsigned digits) {
    std::snprintf(text_, sizeof(text_), "%.*f", static_cast<int>(digits), static_cast<double>(value));
  }
  const char* c_str() const { return text_; }

 private:
  char text_[48];
};

inline void delay(unsigned long) {}
inline unsigned long micros() {
  static unsigned long now = 0;
  return now += 3;
}

void setup();
void loop();

#endif  // STUB_ARDUINO_H_
