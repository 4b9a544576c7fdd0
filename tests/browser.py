"""Run a page of docs/pages in headless Chromium, with a script of the test at its end."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
WRAPPER = """
<pre id="test-result"></pre>
<script>
window.problems = window.problems ?? [];
let testResult;
try { testResult = (() => { %s })(); } catch (error) { problems.push(String(error)); }
document.getElementById("test-result").textContent = JSON.stringify([testResult ?? null, problems]);
</script>
"""
LISTENER = "<script>window.problems = []; addEventListener('error', (event) => problems.push(event.message));</script>"


def run_in_page(page: Path, script: str, folder: Path, address: str = "") -> Any:
    """What `script` (JavaScript, the body of a function) returns at the end of a copy of the page.

    address: what follows # in the address. Skips the test if there is no Chromium; fails it if the page or the script
    raises an error.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: the page was not opened")
    copy = folder / page.name
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{LISTENER}", 1)
    copy.write_text(text.replace("</body>", WRAPPER % script + "</body>"), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--dump-dom", f"{copy.as_uri()}#{address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (found,) = re.findall(r'<pre id="test-result">(.*?)</pre>', done.stdout, re.DOTALL)
    result, problems = json.loads(html.unescape(found))
    assert not problems, problems
    return result
