// The library's own header: its folder then is searched for those of TensorFlow Lite.
