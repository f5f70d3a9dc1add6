package org.tensorflow.lite.gpu

class GpuDelegate(options: Options) : AutoCloseable {
    class Options

    init {
        options.hashCode()
    }

    override fun close() = Unit
}

class CompatibilityList : AutoCloseable {
    val isDelegateSupportedOnThisDevice = false
    val bestOptionsForThisDevice = GpuDelegate.Options()

    override fun close() = Unit
}
