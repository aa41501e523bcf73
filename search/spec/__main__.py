"""`python -m search.spec` prints the JSON schema of an experiment file, for editors."""

import sys

from search.spec.schema import as_text

sys.stdout.write(as_text())
