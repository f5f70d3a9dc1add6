"""A firmware for microcontrollers."""
