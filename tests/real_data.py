"""Where real text lies for tests that read it: the folder named by LANGMERGE_DATA, or one beside the checkout."""

import os
from pathlib import Path

DATA = Path(os.environ.get("LANGMERGE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
