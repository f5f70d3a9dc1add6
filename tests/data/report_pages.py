"""The content of a report's page, for tests."""

import html
import re

TEACHING = {"metric": "accuracy", "part": "validation", "difference": 0.031, "kept": "taught"}
TEACHING |= {"ci95": [0.01, 0.052], "summary": "it helped"}


def pictures(page):
    """Return the pictures of a page that loads nothing: (title, drawing)."""
    for address in re.findall(r'(?:href|src)="([^"]*)"', page):
        assert address[0] == "#" or address.startswith(("./", "data:image/png;base64,")), address
    assert not re.search(r"url\((?!#)|@import|<script|<link|\bon\w+=", page)
    return re.findall(r'<svg role="img" aria-label="([^.]*)\..*?</svg>', page, re.DOTALL)


def cells(page):
    """Return the tables of a page: for each, its rows as lists of texts."""

    def text(cell):
        return html.unescape(re.sub(r"<[^>]*>", "", cell))

    return [
        [
            [text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
            for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
        ]
        for table in re.findall(r"<table[^>]*>.*?</table>", page, re.DOTALL)
    ]
