package {{ package }}

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
{% if compiled %}
import com.google.ai.edge.litert.Accelerator
{% endif %}
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

/** The golden example: on the device's CPU the model answers as LiteRT did in Python. */
@RunWith(AndroidJUnit4::class)
class GoldenExampleTest {
    @Test
    fun answersAsInPython() {
        val context = InstrumentationRegistry.getInstrumentation().targetContext
        val golden = JSONObject(
            context.assets.open("golden.json").bufferedReader().use { it.readText() },
        )
        {{ network }}(context{{ ", Accelerator.CPU" if compiled else (", false" if delegates) }}).use { network ->
            val inputs = golden.getJSONArray("inputs")
            val made = network.predict(
{% for one in inputs %}
                inputs.getJSONArray({{ loop.index0 }}).let { values ->
                    {{ one.array }}(values.length()) { values.getDouble(it).{{ one.from_double }} }
                },
{% endfor %}
            )
            val outputs = golden.getJSONArray("outputs")
{% for one in outputs %}
            check({{ one.title }}, outputs.getJSONArray({{ loop.index0 }}), {{ one.tolerance }}) {
                {{ "made." ~ one.parameter if several else "made" }}[it].toDouble()
            }
{% endfor %}
        }
    }

    private fun check(name: String, want: JSONArray, tolerance: Double, made: (Int) -> Double) {
        assertTrue(want.length() > 0)
        for (i in 0 until want.length()) {
            assertEquals("$name[$i]", want.getDouble(i), made(i), tolerance)
        }
    }
}
