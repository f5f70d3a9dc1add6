package {{ package }}

import android.content.Context
{% if delegates %}
import android.util.Log
{% endif %}
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
{% if quantizes %}
import kotlin.math.sign
import kotlin.math.truncate
{% endif %}
import org.tensorflow.lite.Interpreter
{% if delegates %}
import org.tensorflow.lite.gpu.CompatibilityList
import org.tensorflow.lite.gpu.GpuDelegate
{% endif %}

/**
 * Runs {{ asset }} with the Interpreter. For one thread at a time.
 *
 * Written by tfkd; the names and numbers below are the file's own.
 *
{% if delegates %}
 * @param gpu whether to try the GPU first; where it can't run the model, the CPU does
{% endif %}
 * @param threads of the CPU
 */
class {{ interpreter }}(
    context: Context,
{% if delegates %}
    gpu: Boolean = {{ "true" if gpu else "false" }},
{% endif %}
    threads: Int = 2,
) : AutoCloseable {
    private val file: ByteBuffer = context.assets.openFd(MODEL).use { asset ->
        FileInputStream(asset.fileDescriptor).use {
            it.channel.map(FileChannel.MapMode.READ_ONLY, asset.startOffset, asset.declaredLength)
        }
    }
{% if delegates %}
    private var delegate: GpuDelegate? = null
{% endif %}
    private val interpreter: Interpreter
    private val inputs = mapOf(
{% for one in buffers.inputs %}
        {{ one.literal }} to buffer({{ one.bytes }}),
{% endfor %}
    )
    private val outputs = mapOf(
{% for one in buffers.outputs %}
        {{ one.literal }} to buffer({{ one.bytes }}),
{% endfor %}
    )

    init {
{% if delegates %}
        var opened: Interpreter? = null
        if (gpu) {
            try {
                CompatibilityList().use { list ->
                    if (list.isDelegateSupportedOnThisDevice) {
                        val made = GpuDelegate(list.bestOptionsForThisDevice)
                        delegate = made
                        opened = Interpreter(file, Interpreter.Options().addDelegate(made))
                    }
                }
            } catch (error: RuntimeException) {
                Log.w(MODEL, "The GPU can't run this model, the CPU will.", error)
                delegate?.close()
                delegate = null
            }
        }
        interpreter = opened ?: Interpreter(file, Interpreter.Options().setNumThreads(threads))
{% else %}
        interpreter = Interpreter(file, Interpreter.Options().setNumThreads(threads))
{% endif %}
{% if states %}
        reset()
{% endif %}
    }

{% if delegates %}
    /** Whether the GPU runs the model. It calculates in 16-bit floating point. */
    val usesGpu: Boolean get() = delegate != null

{% endif %}
{% include "labels.kt" %}
{% include "predict.kt" %}
{% for one in inputs %}
        val {{ one.parameter }}Buffer = inputs.getValue({{ one.literal }})
        {{ one.parameter }}Buffer.rewind()
        {{ one.parameter }}.indices.forEach {
            {{ one.parameter }}Buffer.{{ one.put }}(
                {{ one.element }},
            )
        }
{% endfor %}
        (inputs.values + outputs.values).forEach { it.rewind() }
{% if keeps_state %}
        interpreter.resetVariableTensors() // or this call would go on where the last one ended
{% endif %}
        interpreter.runSignature(
            HashMap<String, Any>(inputs),
            HashMap<String, Any>(outputs),
            SIGNATURE,
        )
        (inputs.values + outputs.values).forEach { it.rewind() }
{% for one in states %}
        inputs.getValue({{ one.input }}).put(outputs.getValue({{ one.output }}))
{% endfor %}
{% for one in outputs %}
        val {{ one.parameter }}Buffer = outputs.getValue({{ one.literal }})
        val {{ one.parameter }} = {{ one.result }}({{ one.count }}) { {{ one.taken }} }
{% endfor %}
        return {{ answer }}
    }

{% if states %}
    /** Forgets what came before: call it before each new sequence. */
    fun reset() {
{% for one in states %}
        inputs.getValue({{ one.input }}).let { state ->
            state.rewind()
            repeat({{ one.count }}) { state.{{ one.put }}({{ one.zero }}) }
        }
{% endfor %}
    }

{% endif %}
    override fun close() {
        interpreter.close()
{% if delegates %}
        delegate?.close()
{% endif %}
    }

    private fun buffer(bytes: Int): ByteBuffer =
        ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

{% include "companion.kt" %}
}
