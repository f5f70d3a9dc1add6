package org.json

/** Of JSON as much as a golden example is: names with arrays of arrays of numbers. */
class JSONObject(private val text: String) {
    fun getJSONArray(name: String): JSONArray {
        val start = text.indexOf("[", text.indexOf("\"$name\":").also { check(it >= 0) })
        var depth = 0
        for (i in start until text.length) {
            if (text[i] == '[') depth++
            if (text[i] == ']' && --depth == 0) return JSONArray(text.substring(start + 1, i))
        }
        error("$name does not end")
    }
}

class JSONArray(private val text: String) {
    private val parts =
        if ('[' in text) text.removePrefix("[").removeSuffix("]").split(Regex("\\],\\s*\\["))
        else text.split(",").map { it.trim() }

    fun length() = parts.size
    fun getJSONArray(index: Int) = JSONArray(parts[index])
    fun getDouble(index: Int) = parts[index].toDouble()
    fun join(separator: String) = parts.joinToString(separator)
}
