package org.junit

import kotlin.math.abs

annotation class Test

object Assert {
    fun assertTrue(condition: Boolean) = check(condition)

    fun assertEquals(message: String, expected: Double, actual: Double, delta: Double) =
        check(abs(expected - actual) <= delta) { "$message: $actual, not $expected" }
}
