/** Runs the test of an app: its class is the argument. */
fun main(arguments: Array<String>) {
    val test = Class.forName(arguments.single())
    test.getMethod("answersAsInPython").invoke(test.getDeclaredConstructor().newInstance())
    println("The golden example holds.")
}
