"""An app for Android.

bundle.py    `android_bundle`: the file, its metadata, code and commands
kotlin.py    the code
project.py   the app around it
"""
