{% if named | rejectattr("places") | list %}
    /** A class and its value. */
    data class Score(val label: String, val value: Float)

{% endif %}
{% if named %}
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

{% endif %}
{% if named | rejectattr("places") | list %}
    /** Puts names to the values of one example, the largest value first. */
    fun scores(values: FloatArray, names: List<String>): List<Score> {
        require(values.size == names.size) {
            "${values.size} values for ${names.size} names: give the values of one example"
        }
        return names.zip(values.asList(), ::Score).sortedByDescending { it.value }
    }

{% endif %}
{% if named | selectattr("places") | list %}
    /** Returns the name of the largest value of each step or pixel, in their order. */
    fun bestOfEach(values: FloatArray, names: List<String>): List<String> {
        require(values.size % names.size == 0) {
            "${values.size} values for ${names.size} names: give as many for each step or pixel"
        }
        return List(values.size / names.size) { place ->
            names[names.indices.maxByOrNull { values[place * names.size + it] }!!]
        }
    }

{% endif %}
