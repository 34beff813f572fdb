"""Where rows come from: one protocol, and an adapter for each kind of data."""
