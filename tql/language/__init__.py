"""From the query as written to a typed plan: names, types, constants, passes."""
