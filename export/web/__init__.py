"""A page that runs a file in the browser.

bundle.py      `web_bundle`: the page, the file and a golden example
float_ends.py  the file with float32 inputs and outputs
"""
