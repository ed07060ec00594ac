"""Images and labels for training and search: generated sets, one's own folders and tar shards."""
