package org.tensorflow.lite

import com.google.ai.edge.litert.Golden
import java.nio.ByteBuffer

/** Takes int8 and float32, by the length of the buffers. */
class Interpreter(file: ByteBuffer, options: Options) : AutoCloseable {
    // The file's bytes do not say how it is called; the test says it.
    private val golden = Golden(System.getProperty("asset"))
    private var reset = false

    init {
        check(file.capacity() > 8 && options.threads > 0)
    }

    class Options {
        var threads = 0

        fun setNumThreads(numThreads: Int) = apply { threads = numThreads }
        fun addDelegate(delegate: org.tensorflow.lite.gpu.GpuDelegate) = apply { delegate.hashCode() }
    }

    fun resetVariableTensors() { reset = true }

    fun runSignature(inputs: Map<String, Any>, outputs: Map<String, Any>, signatureKey: String) {
        check(signatureKey.isNotEmpty() && inputs.keys == golden.of("in").keys)
        check(reset || System.getProperty("keeps_state") != "true") { "the state was not reset" }
        reset = false
        for ((name, any) in inputs) {
            val buffer = any as ByteBuffer
            val bytes = buffer.remaining() == golden.of("in").getValue(name).size
            golden.check(
                name,
                if (bytes) List(buffer.remaining()) { buffer.get() }
                else List(buffer.remaining() / 4) { buffer.float },
            )
        }
        for ((name, any) in outputs) {
            val buffer = any as ByteBuffer
            val want = golden.of("out").getValue(name)
            want.forEach { if (buffer.capacity() == want.size) buffer.put(it.toInt().toByte()) else buffer.putFloat(it.toFloat()) }
        }
    }

    override fun close() = Unit
}
