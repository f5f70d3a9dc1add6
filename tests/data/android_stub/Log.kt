package android.util

object Log {
    fun w(tag: String, message: String, error: Throwable? = null): Int {
        System.err.println("$tag: $message ${error?.message}")
        return 0
    }
}
