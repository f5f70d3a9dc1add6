"""The evidence: tables, pictures and pages.

report.py   JSON, a page, a terminal table
plots.py    the pictures
"""
