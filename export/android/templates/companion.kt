    private companion object {
        const val MODEL = {{ model_literal }}
        const val SIGNATURE = {{ signature_literal }}
{% for one in inputs %}
{% for constant, numbers in one.constants.items() %}
        val {{ constant }} = floatArrayOf({{ numbers }})
{% endfor %}
{% endfor %}
{% if quantizes %}

        /** Rounds half away from zero and clips, as when the file was verified. */
        fun quantize(value: Float, scale: Float, zeroPoint: Int, least: Int, most: Int): Int {
            val steps = value.toDouble() / scale
            return (truncate(steps + 0.5 * sign(steps)) + zeroPoint)
                .coerceIn(least.toDouble(), most.toDouble()).toInt()
        }
{% endif %}
    }
