"""`python -m bench.peers`: install the peers."""

from bench.peers import main

raise SystemExit(main())
