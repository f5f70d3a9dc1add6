"""The evidence: tables, pictures and pages.

report.py          report.json, report.html (from `templates/`) and a terminal table
entries.py         a report's entry for each model
predictions.py     a file's answers beside its teacher's, by class and example
answer.py          the page's first line
sections.py        the parts of the page
benchmark_page.py  the page of a benchmark alone, and the parts that both pages share
plots.py           pictures of costs: sizes and times
outcome_plots.py   pictures of curves, candidates, errors, layers
svg.py             one style for figures, and figures as parts of a page
"""
