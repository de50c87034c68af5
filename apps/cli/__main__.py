"""`python -m apps.cli` is `dinghuo`."""

from apps.cli.main import main

main()
