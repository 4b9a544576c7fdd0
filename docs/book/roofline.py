"""Write the data of docs/pages/roofline.html: the report of the benchmark, docs/kernels.json.

    python -m tinynet bench ops --batch 2 --against nothing --json docs/kernels.json
    python docs/book/roofline.py

Measure on a quiet machine: the report says where other processes were busy.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
KERNELS, PAGE = DOCS / "kernels.json", DOCS / "pages/roofline.html"
DATA = re.compile(r'(<script type="application/json" id="data">).*?(</script>)')


def main() -> None:
    data = json.dumps(json.loads(KERNELS.read_text(encoding="utf-8")), separators=(",", ":")).replace("<", "\\u003c")
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(DATA.sub(lambda match: match[1] + data + match[2], text, count=1), encoding="utf-8")
    print(f"{PAGE}: {PAGE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
