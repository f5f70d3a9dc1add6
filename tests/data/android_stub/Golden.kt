package com.google.ai.edge.litert

import android.content.Context
import android.content.res.AssetManager
import java.io.File

enum class Accelerator { NONE, CPU, GPU, NPU }

class LiteRtException(message: String) : Exception(message)

interface NpuAcceleratorProvider {
    fun isDeviceSupported(): Boolean
}

class BuiltinNpuAcceleratorProvider(context: Context) : NpuAcceleratorProvider {
    override fun isDeviceSupported() = false
}

class Environment private constructor() : AutoCloseable {
    override fun close() = Unit

    companion object {
        fun create(provider: NpuAcceleratorProvider): Environment {
            check(provider.isDeviceSupported())
            return Environment()
        }
    }
}

class TensorBuffer : AutoCloseable {
    var held: List<Number> = listOf()

    fun writeFloat(data: FloatArray) { held = data.toList() }
    fun writeInt8(data: ByteArray) { held = data.toList() }
    fun writeInt(data: IntArray) { held = data.toList() }
    fun writeLong(data: LongArray) { held = data.toList() }
    fun readFloat() = FloatArray(held.size) { held[it].toFloat() }
    fun readInt8() = ByteArray(held.size) { held[it].toByte() }
    fun readInt() = IntArray(held.size) { held[it].toInt() }
    fun readLong() = LongArray(held.size) { held[it].toLong() }
    override fun close() = Unit
}

/** Tensor → numbers: lines of `in NAME n n …` and `out NAME n n …`. */
class Golden(asset: String) {
    private val lines = File(AssetManager.folder, "$asset.golden").readLines().map { it.split(" ") }

    fun of(which: String): Map<String, List<Double>> =
        lines.filter { it[0] == which }.associate { it[1] to it.drop(2).map(String::toDouble) }

    fun check(name: String, given: List<Number>) {
        val want = of("in").getValue(name)
        check(given.size == want.size) { "$name has ${given.size} numbers, not ${want.size}" }
        for (i in want.indices) {
            val apart = kotlin.math.abs(given[i].toDouble() - want[i])
            check(apart <= 1e-6 * kotlin.math.abs(want[i])) { "$name[$i] is ${given[i]}, not ${want[i]}" }
        }
    }
}

class CompiledModel private constructor(asset: String) : AutoCloseable {
    private val golden = Golden(asset)

    class CpuOptions(val numThreads: Int? = null)

    class Options(vararg val accelerators: Accelerator) {
        var cpuOptions: CpuOptions? = null
    }

    fun createInputBuffer(inputName: String, signature: String = ""): TensorBuffer {
        check(signature.isNotEmpty() && inputName in golden.of("in")) { "no input $inputName" }
        return TensorBuffer()
    }

    fun createOutputBuffer(outputName: String, signature: String = ""): TensorBuffer {
        check(signature.isNotEmpty() && outputName in golden.of("out")) { "no output $outputName" }
        return TensorBuffer()
    }

    fun run(
        inputs: Map<String, TensorBuffer>,
        outputs: Map<String, TensorBuffer>,
        signature: String = "",
    ) {
        check(signature.isNotEmpty() && inputs.keys == golden.of("in").keys)
        inputs.forEach { (name, buffer) -> golden.check(name, buffer.held) }
        outputs.forEach { (name, buffer) -> buffer.held = golden.of("out").getValue(name) }
    }

    override fun close() = Unit

    companion object {
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options,
            optionalEnv: Environment? = null,
        ): CompiledModel {
            if (options.accelerators.single() != Accelerator.CPU) throw LiteRtException("no GPU")
            return CompiledModel(assetName)
        }
    }
}
