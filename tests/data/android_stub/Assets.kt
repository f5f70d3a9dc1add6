package android.content.res

import java.io.File
import java.io.FileDescriptor
import java.io.FileInputStream
import java.io.InputStream

class AssetManager {
    fun open(fileName: String): InputStream = File(folder, fileName).inputStream()

    fun openFd(fileName: String) = AssetFileDescriptor(File(folder, fileName))

    companion object {
        val folder: String get() = System.getProperty("assets")
    }
}

class AssetFileDescriptor(file: File) : AutoCloseable {
    private val stream = FileInputStream(file)
    val fileDescriptor: FileDescriptor = stream.fd
    val startOffset = 0L
    val declaredLength = file.length()

    override fun close() = stream.close()
}
