// See ../c/common.h.
#ifndef STUB_SCHEMA_H_
#define STUB_SCHEMA_H_

#include <cstdint>
#include <cstring>

namespace tflite {

class Model {
 public:
  uint32_t version() const;
};

// A pointer into the file, which has to be one and aligned.
inline const Model* GetModel(const void* file) { return static_cast<const Model*>(file); }

inline uint32_t Model::version() const {
  const char* bytes = reinterpret_cast<const char*>(this);
  const bool aligned = reinterpret_cast<uintptr_t>(bytes) % 16 == 0;
  return aligned && std::memcmp(bytes + 4, "TFL3", 4) == 0 ? 3 : 0;
}

}  // namespace tflite

#endif  // STUB_SCHEMA_H_
