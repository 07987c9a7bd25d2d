"""`python -m evidence_service` is `fas-evidence`."""

import sys

from evidence_service.cli.main import main

sys.exit(main())
