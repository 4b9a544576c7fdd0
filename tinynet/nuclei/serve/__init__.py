"""`tinynet nuclei serve`: a page in the browser to find nuclei, correct them, export them and train on them.

Read `command.py` (how it starts), `app.py` (what the server answers), `edit.py` (what a correction does); `page/` holds
what runs in the browser.
"""
