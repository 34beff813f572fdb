"""The loading of batches, ours and others': the data, who takes part, the processes, the tables."""
