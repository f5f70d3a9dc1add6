"""The evidence: tables, pictures and pages.

report.py   report.json, report.html (from `templates/`) and a terminal table
plots.py    the pictures
"""
