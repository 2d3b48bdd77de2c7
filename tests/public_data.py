"""Where the public data sets are that some tests read; without them these tests skip."""

import os
from pathlib import Path

DATA = Path(os.environ.get("RLAIF_DATA", Path(__file__).parents[1] / "../shared/data"))
"""``RLAIF_DATA``, else a folder beside the checkout."""
