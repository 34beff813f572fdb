"""What people read about data and queries: explain, the class table, statistics."""
