// The few names of Unity that a project's test uses.
#ifndef STUB_UNITY_H_
#define STUB_UNITY_H_

#include <cstdio>

extern int unity_failures;

#define UNITY_BEGIN() std::puts("tests begin")
#define UNITY_END() std::puts("tests end")
#define RUN_TEST(test) test()
#define TEST_ASSERT_EQUAL_INT(expected, actual)                                  \
  do {                                                                           \
    const int got = static_cast<int>(actual);                                    \
    std::printf("%d where %d was expected\n", got, static_cast<int>(expected)); \
    if (got != static_cast<int>(expected)) ++unity_failures;                     \
  } while (false)

#endif  // STUB_UNITY_H_
