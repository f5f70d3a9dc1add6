{% if named %}
    /** A class and its value. */
    data class Score(val label: String, val value: Float)

{% for one in named %}
    /** The classes, in the order of the values of `{{ one.output }}`. */
    val {{ one.list }}: List<String> =
        context.assets.open({{ one.file }}).bufferedReader().use { it.readLines() }

{% endfor %}
    init {
{% for one in named %}
        check({{ one.list }}.size == {{ one.count }}) {
            {{ one.complaint }}
        }
{% endfor %}
    }

    /** Puts names to the values of one example, the largest value first. */
    fun scores(values: FloatArray, names: List<String>): List<Score> {
        require(values.size == names.size) {
            "${values.size} values for ${names.size} names: give the values of one example"
        }
        return names.zip(values.asList(), ::Score).sortedByDescending { it.value }
    }

{% endif %}
