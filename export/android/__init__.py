"""An app for Android."""
