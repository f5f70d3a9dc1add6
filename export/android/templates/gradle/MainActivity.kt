package {{ package }}

import android.app.Activity
{% if image %}
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Build
{% endif %}
import android.os.Bundle
{% if image %}
import android.provider.MediaStore
{% endif %}
import android.text.InputType
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.EditText
{% if image %}
import android.widget.ImageView
{% endif %}
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.Spinner
import android.widget.TextView
{% if compiled %}
import com.google.ai.edge.litert.Accelerator
{% endif %}
import java.util.concurrent.Executors
import org.json.JSONObject

/** Runs {{ asset }} on numbers{{ " or an image" if image }}, and says how long a call takes. */
class MainActivity : Activity() {
    private val background = Executors.newSingleThreadExecutor()
    private var network: {{ network }}? = null // belongs to the background thread
{% for one in inputs %}
    private lateinit var input{{ loop.index0 }}: EditText
{% endfor %}
{% if image %}
    private lateinit var picture: ImageView
{% endif %}
    private lateinit var choice: Spinner
    private lateinit var answer: TextView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val content = LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            setPadding(32, 32, 32, 32)
        }
        choice = Spinner(this).apply {
            contentDescription = "What runs the model"
            adapter = ArrayAdapter(
                this@MainActivity,
                android.R.layout.simple_spinner_dropdown_item,
                CHOICES,
            )
        }
        content.addView(choice)
        val golden = JSONObject(
            assets.open("golden.json").bufferedReader().use { it.readText() },
        ).getJSONArray("inputs")
{% if image %}
        picture = ImageView(this).apply {
            contentDescription = "The image that goes in"
            adjustViewBounds = true
        }
        content.addView(picture)
        content.addView(button("Choose an image") { chooseImage() })
{% endif %}
{% for one in inputs %}
        input{{ loop.index0 }} = field(
            {{ one.hint }},
            golden.getJSONArray({{ loop.index0 }}).join(" "),
        )
        content.addView(input{{ loop.index0 }})
{% endfor %}
        content.addView(button("Run") { run() })
{% if states %}
        content.addView(button("Start a new sequence") { background.execute { network?.reset() } })
{% endif %}
        answer = TextView(this).apply { setTextIsSelectable(true) }
        content.addView(answer)
        setContentView(
            ScrollView(this).apply {
                fitsSystemWindows = true
                addView(content)
            },
        )
        choice.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, view: View?, at: Int, id: Long) =
                open(at)

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
    }

    override fun onDestroy() {
        background.execute {
            network?.close()
            network = null
        }
        background.shutdown()
        super.onDestroy()
    }

    private fun open(at: Int) = background.execute {
        network?.close()
        network = null
        try {
{% if compiled %}
            val opened = {{ network }}(this, Accelerator.valueOf(CHOICES[at]))
            network = opened
            say("${opened.accelerator} runs {{ asset }}.")
{% elif delegates %}
            val opened = {{ network }}(this, CHOICES[at] == "GPU")
            network = opened
            say("${if (opened.usesGpu) "GPU" else "CPU"} runs {{ asset }}.")
{% else %}
            network = {{ network }}(this)
            say("${CHOICES[at]} runs {{ asset }}.")
{% endif %}
        } catch (error: Exception) {
            say("The model can't be opened: ${error.message}")
        }
    }

    private fun run() {
{% for one in inputs %}
        val words{{ loop.index0 }} = words(input{{ loop.index0 }})
{% endfor %}
        background.execute {
            val running = network ?: return@execute
            try {
{% for one in inputs %}
                val values{{ loop.index0 }} = {{ one.array }}(words{{ loop.index0 }}.size) {
                    words{{ loop.index0 }}[it].{{ one.parse }}()
                }
{% endfor %}
                val start = System.nanoTime()
                val made = running.predict(
{% for one in inputs %}
                    values{{ loop.index0 }},
{% endfor %}
                )
                val took = (System.nanoTime() - start) / 1e6
                val lines = mutableListOf("%.3f ms, quantizing included".format(took))
{% for one in outputs %}
{% set values = "made." ~ one.parameter if several else "made" %}
                lines += {{ one.title }}
{% if one.named and one.named.places %}
                lines += running.bestOfEach({{ values }}, running.{{ one.named.list }})
                    .take(SHOWN).joinToString(", ")
{% elif one.named %}
                running.scores({{ values }}, running.{{ one.named.list }}).take(SHOWN).forEach {
                    lines += "%.4f  %s".format(it.value, it.label)
                }
{% else %}
                lines += {{ values }}.take(SHOWN).joinToString(", ")
{% endif %}
{% endfor %}
                say(lines.joinToString("\n"))
            } catch (error: NumberFormatException) {
                say("An input holds something that is no number of its type: ${error.message}")
            } catch (error: Exception) {
                say("The model can't run: ${error.message}")
            }
        }
    }

    private fun say(text: String) = runOnUiThread { answer.text = text }

    private fun words(field: EditText): List<String> =
        field.text.split(' ', ',', ';', '\n').filter { it.isNotBlank() }

    private fun field(hint: String, start: String) = EditText(this).apply {
        this.hint = hint
        contentDescription = hint
        inputType = InputType.TYPE_CLASS_TEXT or
            InputType.TYPE_TEXT_FLAG_MULTI_LINE or
            InputType.TYPE_TEXT_FLAG_NO_SUGGESTIONS
        maxLines = 6
        setText(start)
    }

    private fun button(text: String, action: () -> Unit) = Button(this).apply {
        this.text = text
        setOnClickListener { action() }
    }

{% if image %}
    private fun chooseImage() = startActivityForResult(
        Intent(Intent.ACTION_GET_CONTENT).setType("image/*"),
        IMAGE,
    )

    @Deprecated("Activity's own way; an app with androidx.activity has another.")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        val address = data?.data
        if (requestCode != IMAGE || resultCode != RESULT_OK || address == null) return
        background.execute {
            try {
                val bitmap = fitted(decoded(address))
                val text = pixels(bitmap).joinToString(" ")
                runOnUiThread {
                    picture.setImageBitmap(bitmap)
                    input{{ image.index }}.setText(text)
                    run()
                }
            } catch (error: Exception) {
                say("The image can't be read: ${error.message}")
            }
        }
    }

    @Suppress("DEPRECATION") // MediaStore.Images.Media.getBitmap, before Android 9
    private fun decoded(address: Uri): Bitmap =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.P) {
            ImageDecoder.decodeBitmap(ImageDecoder.createSource(contentResolver, address)) {
                    decoder, _, _ ->
                decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
            }
        } else {
            MediaStore.Images.Media.getBitmap(contentResolver, address)
        }

    /** Cuts an image to its middle, in the form of the input, and scales it. */
    private fun fitted(bitmap: Bitmap): Bitmap {
        val wide = minOf(bitmap.width, bitmap.height * WIDTH / HEIGHT).coerceAtLeast(1)
        val high = minOf(bitmap.height, bitmap.width * HEIGHT / WIDTH).coerceAtLeast(1)
        val (left, top) = (bitmap.width - wide) / 2 to (bitmap.height - high) / 2
        val middle = Bitmap.createBitmap(bitmap, left, top, wide, high)
        return Bitmap.createScaledBitmap(middle, WIDTH, HEIGHT, true)
    }

    /** The raw numbers of an image: BLACK for 0, WHITE for 255. */
    private fun pixels(bitmap: Bitmap): FloatArray {
        val colours = IntArray(WIDTH * HEIGHT)
        bitmap.getPixels(colours, 0, WIDTH, 0, 0, WIDTH, HEIGHT)
        return FloatArray(WIDTH * HEIGHT * CHANNELS) {
            val colour = colours[it / CHANNELS]
            val red = colour shr 16 and 0xFF
            val green = colour shr 8 and 0xFF
            val blue = colour and 0xFF
            val part = when {
                CHANNELS == 1 -> 0.299f * red + 0.587f * green + 0.114f * blue
                it % CHANNELS == 0 -> red.toFloat()
                it % CHANNELS == 1 -> green.toFloat()
                else -> blue.toFloat()
            }
            BLACK + (WHITE - BLACK) * part / 255f
        }
    }

{% endif %}
    private companion object {
        const val SHOWN = 5
        val CHOICES = listOf({{ choices }})
{% if image %}
        const val IMAGE = 1
        const val HEIGHT = {{ image.height }}
        const val WIDTH = {{ image.width }}
        const val CHANNELS = {{ image.channels }}

        // What the model's raw input has for a black and for a white pixel{{ ": the least and the
        // largest number of the examples given" if image.measured else ": a guess from the file;
        // put in what your data had" }}.
        const val BLACK = {{ image.black }}
        const val WHITE = {{ image.white }}
{% endif %}
    }
}
