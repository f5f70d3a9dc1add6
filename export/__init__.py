"""From a trained Keras model to a `.tflite` file that is verified and benchmarked.

Installed as `tfkd.export`. What this package does changes the representation of a model,
never its weights.
"""

from tfkd._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "TFLiteModel": "artifact",
        "to_tflite": "conversion",
        "recurrent_forms": "conversion",
        "RecurrentForm": "conversion",
        "verify": "verification",
        "Verification": "verification",
        "benchmark": "latency",
        "Benchmark": "timings",
        "Latency": "timings",
        "Ratio": "timings",
        "profile": "operators",
        "Profile": "operators",
        "micro_bundle": "firmware",
        "MicroBundle": "firmware",
        "prove": "micro",
        "Proof": "micro",
        "fits": "boards",
        "vela_estimate": "vela",
        "android_bundle": "android",
        "AndroidBundle": "android",
        "with_metadata": "model_metadata",
        "read_metadata": "model_metadata",
        "write_report": "report",
        "Report": "report",
        "ModelEntry": "report",
    },
)
