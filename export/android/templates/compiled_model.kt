package {{ package }}

import android.content.Context
import android.util.Log
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.BuiltinNpuAcceleratorProvider
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
{% if quantizes %}
import kotlin.math.sign
import kotlin.math.truncate
{% endif %}

/**
 * Runs {{ asset }} with LiteRT's CompiledModel. For one thread at a time.
 *
 * Written by tfkd; the names and numbers below are the file's own.
 *
 * @param prefer what to try first; where it can't run the model, the CPU does. The NPU needs its
 *     maker's libraries in the app: https://developers.google.com/edge/litert/next/npu
 * @param threads of the CPU
 */
class {{ compiled }}(
    context: Context,
    prefer: Accelerator = Accelerator.{{ "GPU" if gpu else "CPU" }},
    threads: Int = 2,
) : AutoCloseable {
    /** What runs the model. The GPU calculates in 16-bit floating point. */
    val accelerator: Accelerator

    private val model: CompiledModel
    private var environment: Environment? = null
    private val inputs: Map<String, TensorBuffer>
    private val outputs: Map<String, TensorBuffer>

    init {
        var opened: CompiledModel? = null
        if (prefer != Accelerator.CPU) {
            try {
                val provider = BuiltinNpuAcceleratorProvider(context)
                if (prefer == Accelerator.NPU && provider.isDeviceSupported()) {
                    environment = Environment.create(provider)
                }
                if (prefer != Accelerator.NPU || environment != null) {
                    val options = CompiledModel.Options(prefer)
                    opened = CompiledModel.create(context.assets, MODEL, options, environment)
                } else {
                    Log.w(MODEL, "LiteRT knows no NPU of this device, the CPU runs the model.")
                }
            } catch (error: LiteRtException) {
                Log.w(MODEL, "The $prefer can't run this model, the CPU will.", error)
            }
        }
        accelerator = if (opened == null) Accelerator.CPU else prefer
        model = opened ?: CompiledModel.create(
            context.assets,
            MODEL,
            CompiledModel.Options(Accelerator.CPU).apply {
                cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
            },
        )
        inputs = listOf(
{% for one in buffers.inputs %}
            {{ one.literal }},
{% endfor %}
        ).associateWith { model.createInputBuffer(it, SIGNATURE) }
        outputs = listOf(
{% for one in buffers.outputs %}
            {{ one.literal }},
{% endfor %}
        ).associateWith { model.createOutputBuffer(it, SIGNATURE) }
{% if states %}
        reset()
{% endif %}
    }

{% include "labels.kt" %}
{% include "predict.kt" %}
{% for one in inputs %}
{% if one.converts %}
        inputs.getValue({{ one.literal }}).write{{ one.accessor }}(
            {{ one.stored }}({{ one.count }}) {
                {{ one.element }}
            },
        )
{% else %}
        inputs.getValue({{ one.literal }}).write{{ one.accessor }}({{ one.parameter }})
{% endif %}
{% endfor %}
        model.run(inputs, outputs, SIGNATURE)
{% for one in states %}
        inputs.getValue({{ one.input }}).write{{ one.accessor }}(
            outputs.getValue({{ one.output }}).read{{ one.accessor }}(),
        )
{% endfor %}
{% for one in outputs %}
{% if one.back %}
        val {{ one.parameter }}Steps = outputs.getValue({{ one.literal }}).read{{ one.accessor }}()
        val {{ one.parameter }} = FloatArray({{ one.count }}) {
            ({{ one.parameter }}Steps[it] {{ one.back }}
        }
{% else %}
        val {{ one.parameter }} = outputs.getValue({{ one.literal }}).read{{ one.accessor }}()
{% endif %}
{% endfor %}
        return {{ answer }}
    }

{% if states %}
    /** Forgets what came before: call it before each new sequence. */
    fun reset() {
{% for one in states %}
        inputs.getValue({{ one.input }}).write{{ one.accessor }}({{ one.zeros }})
{% endfor %}
    }

{% endif %}
    override fun close() {
        (inputs.values + outputs.values).forEach { it.close() }
        model.close()
        environment?.close()
    }

{% include "companion.kt" %}
}
