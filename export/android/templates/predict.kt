{% if several %}
    /** What one call gives. */
    class Result(
{% for one in outputs %}
        /** {{ one.says }} */
        val {{ one.parameter }}: {{ one.result }},
{% endfor %}
    )

{% endif %}
    /**
     * Runs the model once{{ ": one step of a sequence" if states }}.
     *
{% for one in inputs %}
     * @param {{ one.parameter }} {{ one.says }}
{% endfor %}
{% if not several %}
     * @return {{ outputs[0].says }}
{% endif %}
     */
    fun predict(
{%- for one in inputs %}{{ one.parameter }}: {{ one.array }}{{ ", " if not loop.last }}{% endfor -%}
): {{ returns }} {
{% for one in inputs %}
        require({{ one.parameter }}.size == {{ one.count }}) {
            "{{ one.parameter }} takes {{ one.count }} values, got ${{ "{" }}{{ one.parameter }}.size}."
        }
{% endfor %}
